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


def nodes_of(name, args):
    c, k = args.get("channels", 1 if name in LENETS else 3), args.get("classes", 10)
    if name in LENETS:
        return [weighted(*layer) for layer in LENETS[name](c, k)]
    return {"depthwise32": depthwise, "mobilenetv2": mobilenet}[name](c, k, args.get("width", 1))


def weighted(name, outputs, inputs, *kernel, bias=True):
    if not kernel:
        return name, "Linear", {"out_features": outputs, "in_features": inputs, "bias": bias}
    return name, "Conv2d", {"out_channels": outputs, "in_channels": inputs,
                            "kernel_size": kernel, "bias": bias}


def normed(conv, norm, *shape):
    return [weighted(conv, *shape, bias=False), (norm, "BatchNorm2d", {"num_features": shape[0]})]


def wide(v, width):
    w = max(8, int(v * width + 4) // 8 * 8)
    return w + 8 if w < 0.9 * v * width else w


def depthwise(c, k, width):
    sizes = [wide(v, width) for v in (32, 64, 128, 128)]
    nodes = normed("stem", "stem_bn", sizes[0], c, 3, 3)
    for N, i, o in zip(("block1", "block2", "block3"), sizes, sizes[1:]):
        nodes += normed(f"{N}.dw", f"{N}.dw_bn", i, 1, 3, 3)
        nodes += normed(f"{N}.pw", f"{N}.pw_bn", o, i, 1, 1)
    return nodes + [weighted("fc", k, sizes[-1])]


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
