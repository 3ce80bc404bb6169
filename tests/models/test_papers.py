import numpy as np

from minicomp.models.papers import DigitNet, GuptaCNN, GuptaMLP, SigmoidNet, SlimmingMLP

RNG = np.random.default_rng


def test_the_digit_net_has_8720_parameters_and_ten_outputs():
    net = DigitNet(rng=RNG(0))
    assert net.count() == 8720 and net.shapes()["fc2"] == (10,)
    assert not any(net.forms()[f"{name}.bias"].value.data.any() for name in ("c1", "fc2"))


def test_the_sigmoid_nets_have_58_and_39_weights_in_float64():
    for hidden, weights in ((3, 58), (2, 39)):
        net = SigmoidNet(17, hidden, rng=RNG(0))
        drawn = np.concatenate([form.value.data.ravel() for form in net.forms().values()])
        assert len(drawn) == weights and drawn.dtype == np.float64
        assert np.abs(drawn).max() < 1 and drawn.min() < -0.5 < 0.5 < drawn.max()


def test_the_slimming_net_begins_at_scales_of_a_half():
    net = SlimmingMLP(rng=RNG(0))
    assert [net.shapes()[n] for n in ("fc1", "fc2", "fc3")] == [(500,), (300,), (10,)]
    assert all((net.forms()[f"bn{i}.weight"].value.data == 0.5).all() for i in (1, 2))
    assert net.forms()["fc1.weight"].value.data.std() > 0.01


def test_the_nets_of_gupta_have_the_published_layers():
    net = GuptaMLP(rng=RNG(0))
    assert [net.shapes()[n] for n in ("fc1", "fc2", "fc3")] == [(1000,), (1000,), (10,)]
    assert abs(net.forms()["fc2.weight"].value.data.std() - 0.01) < 1e-4
    net = GuptaCNN(rng=RNG(0))
    shapes = net.shapes()
    assert [shapes[n] for n in ("conv1", "pool1", "conv2", "pool2", "fc1", "fc2")] == [
        (8, 24, 24), (8, 12, 12), (16, 8, 8), (16, 4, 4), (128,), (10,)]
