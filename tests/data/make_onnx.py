"""Makes the files in tests/data/onnx: small nets that other frameworks trained and wrote as ONNX.

    python tests/data/make_onnx.py [NAME ...]

Not run by tests: it needs what it imports, each maker its own. Written November 2026 with torch
2.13.0, onnxscript 0.7.2, onnx 1.23.2, onnxruntime 1.32.0, scikit-learn 1.9.1, skl2onnx 1.20.0,
tensorflow-cpu 2.21.0, keras 3.15.1, tf2onnx 1.17.0, brevitas 0.13.4 (with onnxoptimizer), nncf
3.4.0 (with torchao 0.18.0). Nets are trained on the 8 x 8 digits that scikit-learn ships.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "onnx"


def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images[:, None] / 16).astype(np.float32), found.target


def trained(net, epochs=20):
    import torch

    torch.manual_seed(0)
    x, y = (torch.tensor(a) for a in digits())
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    net.eval()
    print(f"{type(net).__name__}: {int((net(x).argmax(1) != y).sum())} errors of {len(x)}")
    return net


def nets():
    import torch
    from torch import nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 12, 3)
            self.fc1, self.fc2 = nn.Linear(12, 24), nn.Linear(24, 10)
            self.drop = nn.Dropout(0.1)

        def forward(self, x):
            x = (x - 0.3) / 0.35
            x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
            x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
            x = x.view(x.size(0), -1)
            return self.fc2(self.drop(torch.relu(self.fc1(x))))

    class MobileNet(nn.Module):
        def __init__(self):
            super().__init__()

            def block(i, o, k, stride, groups=1):
                return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False),
                                     nn.BatchNorm2d(o), nn.ReLU6())

            self.stem, self.wide = block(1, 8, 3, 1), block(8, 24, 1, 1)
            self.deep = block(24, 24, 3, 1, groups=24)
            self.narrow = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
            self.down, self.last = block(8, 8, 3, 2, groups=8), block(8, 32, 1, 1)
            self.classes = nn.Linear(32, 10)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.narrow(self.deep(self.wide(x)))
            x = self.last(self.down(x))
            return self.classes(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return {"lenet": LeNet, "mobilenet": MobileNet}


def torch_files():
    import torch

    for name, make in nets().items():
        net, x = trained(make()), torch.tensor(digits()[0][:2])
        torch.onnx.export(net, (x,), HERE / f"torch_{name}_dynamo.onnx", dynamo=True,
                          external_data=False, input_names=["image"], output_names=["logits"],
                          dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.onnx.export(net, (x,), HERE / f"torch_{name}_script.onnx", dynamo=False,
                          input_names=["image"], output_names=["logits"],
                          dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})


def sklearn_file():
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    x, y = digits()
    flat = x.reshape(len(x), -1)
    net = MLPClassifier((24, 16), max_iter=100, random_state=0).fit(flat, y)
    (HERE / "sklearn_mlp.onnx").write_bytes(to_onnx(net, flat[:1]).SerializeToString())


def ort_files():
    # of the LeNet and the MobileNet that the older exporter of torch wrote
    from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType,
                                          quantize_dynamic, quantize_static)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(digits()[0][:100])

        def get_next(self):
            x = next(self.batches, None)
            return None if x is None else {"image": x[None]}

    for name in ("lenet", "mobilenet"):
        source = HERE / f"torch_{name}_script.onnx"
        for form in (QuantFormat.QDQ, QuantFormat.QOperator):
            quantize_static(source, HERE / f"ort_{name}_{form.name.lower()}.onnx", Reader(),
                            quant_format=form, per_channel=True, weight_type=QuantType.QInt8)
    quantize_dynamic(HERE / "torch_lenet_script.onnx", HERE / "ort_lenet_dynamic.onnx",
                     weight_type=QuantType.QInt8)


def keras_file():
    # through tf2onnx: channels last, SAME padding, a batch norm, a mean over maps
    import keras
    import tensorflow as tf
    import tf2onnx
    from keras import layers

    keras.utils.set_random_seed(0)
    x, y = digits()
    net = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same"), layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", activation="relu"),
        layers.MaxPooling2D(2, padding="same"),
        layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dropout(0.1),
        layers.Dense(10, activation="softmax")])
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(x.transpose(0, 2, 3, 1), y, epochs=10, verbose=0)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")])
    def run(x):
        return net(x, training=False)

    tf2onnx.convert.from_function(run, run.input_signature,
                                  output_path=str(HERE / "keras_tf2onnx.onnx"))


def keras_export_file():
    # by Keras' own exporter, on torch: KERAS_BACKEND=torch
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    x, y = digits()
    net = keras.Sequential([
        keras.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(10)])
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(x.transpose(0, 2, 3, 1), y, epochs=5, verbose=0)
    net.export(HERE / "keras_torch.onnx", format="onnx")


def nncf_file():
    import nncf
    import torch

    net, x = trained(nets()["lenet"]()), digits()[0]
    data = nncf.Dataset([x[i:i + 1] for i in range(100)], lambda a: torch.tensor(a))
    net = nncf.quantize(net, data)
    net = nncf.strip(net, example_input=torch.tensor(x[:1]))
    torch.onnx.export(net, (torch.tensor(x[:1]),), HERE / "nncf_lenet.onnx", dynamo=False,
                      input_names=["image"], dynamic_axes={"image": {0: "batch"}})


def brevitas_file():
    import brevitas.nn as qnn
    import torch
    from brevitas.export import export_onnx_qcdq
    from torch import nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
            self.conv = qnn.QuantConv2d(1, 6, 3, weight_bit_width=4)
            self.act = qnn.QuantReLU(bit_width=4, return_quant_tensor=True)
            self.fc = qnn.QuantLinear(54, 10, bias=True, weight_bit_width=4)

        def forward(self, x):
            x = torch.max_pool2d(self.act(self.conv(self.quant(x))), 2)
            return self.fc(x.flatten(1))

    net = trained(LeNet())
    export_onnx_qcdq(net, torch.tensor(digits()[0][:1]),
                     export_path=str(HERE / "brevitas_lenet.onnx"), dynamo=False,
                     input_names=["image"], dynamic_axes={"image": {0: "batch"}})


MAKERS = {"torch": torch_files, "sklearn": sklearn_file, "ort": ort_files, "keras": keras_file,
          "keras-torch": keras_export_file, "nncf": nncf_file, "brevitas": brevitas_file}

if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MAKERS:
        MAKERS[name]()
