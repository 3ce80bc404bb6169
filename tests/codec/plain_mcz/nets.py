"""Section 2, "Built-in nets": the nodes that hold weights, each as (name, kind, arguments)."""

LENETS = {
    "lenet300": lambda c, k: [("fc1", 300, 784 * c), ("fc2", 100, 300), ("fc3", k, 100)],
    "lenet5": lambda c, k: [("conv1", 20, c, 5, 5), ("conv2", 50, 20, 5, 5), ("fc1", 500, 800),
                            ("fc2", k, 500)],
    "lenet5classic": lambda c, k: [("conv1", 6, c, 5, 5), ("conv2", 16, 6, 5, 5),
                                   ("fc1", 120, 400), ("fc2", 84, 120), ("fc3", k, 84)],
}
BLOCKS = [(t, v) for t, v, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3),
                                 (6, 160, 3), (6, 320, 1)) for _ in range(n)]

FIRES = (16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)


def nodes_of(name, args):
    c, k = args.get("channels", 1 if name in LENETS else 3), args.get("classes", 10)
    if name in LENETS:
        return [weighted(*layer) for layer in LENETS[name](c, k)]
    function, defaults = NETS[name]
    return function(c, k, **{key: args.get(key, value) for key, value in defaults.items()})


def weighted(name, outputs, inputs, *kernel, bias=True):
    if not kernel:
        return name, "Linear", {"out_features": outputs, "in_features": inputs, "bias": bias}
    return name, "Conv2d", {"out_channels": outputs, "in_channels": inputs,
                            "kernel_size": kernel, "bias": bias}


def normed(conv, norm, *shape):
    return [weighted(conv, *shape, bias=False), (norm, "BatchNorm2d", {"num_features": shape[0]})]


def wide(v, width, m=8):
    w = max(m, int(v * width + m / 2) // m * m)
    return w + m if w < 0.9 * v * width else w


def depthwise(c, k, width, outs):
    i, *sizes = [wide(v, width) for v in outs]
    nodes = normed("stem", "stem_bn", i, c, 3, 3)
    for number, o in enumerate(sizes, start=1):
        N = f"block{number}"
        nodes += normed(f"{N}.dw", f"{N}.dw_bn", i, 1, 3, 3)
        nodes += normed(f"{N}.pw", f"{N}.pw_bn", o, i, 1, 1)
        i = o
    return nodes + [weighted("fc", k, i)]


def mobilenet(c, k, width):
    i = wide(32, width)
    nodes = normed("features.0.0", "features.0.1", i, c, 3, 3)
    for number, (t, v) in enumerate(BLOCKS, start=1):
        o, e, j, N = wide(v, width), t * i, int(t != 1), f"features.{number}.conv"
        if j:
            nodes += normed(f"{N}.0.0", f"{N}.0.1", e, i, 1, 1)
        nodes += normed(f"{N}.{j}.0", f"{N}.{j}.1", e, 1, 3, 3)
        nodes += normed(f"{N}.{j + 1}", f"{N}.{j + 2}", o, e, 1, 1)
        i = o
    last = wide(1280, max(width, 1))
    nodes += normed("features.18.0", "features.18.1", last, i, 1, 1)
    return nodes + [weighted("classifier.1", k, last)]


def vgg(c, k, width, resolution, hidden):
    nodes, i = [], c
    for number, v in enumerate((128, 128, 256, 256, 512, 512), start=1):
        o = wide(v, width)
        nodes += normed(f"conv{number}", f"bn{number}", o, i, 3, 3)
        i = o
    i *= (resolution // 8) ** 2
    for number in range(7, 7 + hidden):
        o = wide(1024, width)
        nodes += normed(f"fc{number}", f"bn{number}", o, i)
        i = o
    return nodes + [weighted("fc", k, i), ("bn", "BatchNorm1d", {"num_features": k})]


def resnet(c, k, width, blocks):
    i = wide(16, width)
    nodes = normed("conv1", "bn1", i, c, 3, 3)
    for stage in (1, 2, 3):
        o = wide(8 * 2**stage, width)
        for number in range(blocks):
            N = f"layer{stage}.{number}"
            nodes += normed(f"{N}.conv1", f"{N}.bn1", o, i, 3, 3)
            nodes += normed(f"{N}.conv2", f"{N}.bn2", o, o, 3, 3)
            if stage > 1 and number == 0:
                nodes += normed(f"{N}.downsample.0", f"{N}.downsample.1", o, i, 1, 1)
            i = o
    return nodes + [weighted("fc", k, i)]


def alexnet(c, k, width, resolution):
    p, q, r, s, l = (wide(v, width) for v in (64, 192, 384, 256, 4096))
    kernel, side = 11, 6
    if resolution < 64:
        kernel, side = 3, resolution
        for _ in range(3):
            side = (side - 1) // 2
    return [weighted(*layer) for layer in (
        ("features.0", p, c, kernel, kernel), ("features.3", q, p, 5, 5),
        ("features.6", r, q, 3, 3), ("features.8", s, r, 3, 3), ("features.10", s, s, 3, 3),
        ("classifier.1", l, s * side**2), ("classifier.4", l, l), ("classifier.6", k, l))]


def squeezenet(c, k, width, stem, kernel, places):
    i = wide(stem, width)
    nodes = [weighted("features.0", i, c, kernel, kernel)]
    for number, fire in zip(places, FIRES):
        N, (s, e) = f"features.{number}", (wide(v, width) for v in fire)
        nodes += [weighted(f"{N}.squeeze", s, i, 1, 1), weighted(f"{N}.expand1x1", e, s, 1, 1),
                  weighted(f"{N}.expand3x3", e, s, 3, 3)]
        i = 2 * e
    return nodes + [weighted("classifier.1", k, i, 1, 1)]


def shufflenet(c, k, width, groups):
    i = wide(24, width, groups)
    nodes = normed("stem", "stem_bn", i, c, 3, 3)
    first = wide({1: 144, 2: 200, 3: 240, 4: 272, 8: 384}[groups], width, 4 * groups)
    for stage, units in ((2, 4), (3, 8), (4, 4)):
        o = first * 2 ** (stage - 2)
        for number in range(units):
            N, e = f"stage{stage}.{number}", o // 4
            f = 1 if (stage, number) == (2, 0) else groups
            nodes += normed(f"{N}.gconv1", f"{N}.bn1", e, i // f, 1, 1)
            nodes += normed(f"{N}.dw", f"{N}.bn2", e, 1, 3, 3)
            nodes += normed(f"{N}.gconv2", f"{N}.bn3", o if number else o - i, e // groups, 1, 1)
            i = o
    return nodes + [weighted("fc", k, i)]


def xception(c, k, width):
    a, i = wide(32, width), wide(64, width)
    nodes = normed("conv1", "conv1_bn", a, c, 3, 3) + normed("conv2", "conv2_bn", i, a, 3, 3)
    blocks = [(128,) * 2, (256,) * 2, (728,) * 2] + [(728,) * 3] * 8 + [(728, 1024)]
    for number, outs in enumerate(blocks, start=1):
        N, start = f"block{number}", i
        for j, v in enumerate(outs, start=1):
            o = wide(v, width)
            nodes += separable(f"{N}.sep{j}", i, o)
            i = o
        if len(outs) == 2:
            nodes += normed(f"{N}.short", f"{N}.short_bn", i, start, 1, 1)
    d, last = wide(1536, width), wide(2048, width)
    return nodes + separable("sep1", i, d) + separable("sep2", d, last) + [weighted("fc", k, last)]


def separable(S, i, o):
    return [weighted(f"{S}.dw", i, 1, 3, 3, bias=False), *normed(f"{S}.pw", f"{S}.bn", o, i, 1, 1)]


NETS = {
    "depthwise32": (depthwise, {"width": 1, "outs": (32, 64, 128, 128)}),
    "mobilenetv1": (depthwise, {"width": 0.25, "outs": (
        32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)}),
    "mobilenetv2": (mobilenet, {"width": 1}),
    "vggsmall": (vgg, {"width": 0.125, "resolution": 32, "hidden": 2}),
    "resnet20": (resnet, {"width": 1, "blocks": 3}),
    "alexnet": (alexnet, {"width": 0.25, "resolution": 32}),
    "squeezenet1_0": (squeezenet, {"width": 0.5, "stem": 96, "kernel": 7,
                                   "places": (3, 4, 5, 7, 8, 9, 10, 12)}),
    "squeezenet1_1": (squeezenet, {"width": 0.5, "stem": 64, "kernel": 3,
                                   "places": (3, 4, 6, 7, 9, 10, 11, 12)}),
    "shufflenet": (shufflenet, {"width": 0.5, "groups": 3}),
    "xception": (xception, {"width": 0.125}),
}
