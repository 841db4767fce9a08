"""Networks under the released names, and checkpoints of every kind in them."""

import hashlib
import pickle
import shutil

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from common.system.errors import UserError
from common.tensorflow_files import checkpoint as files
from dgl_tf import registry, sessions, weights
from tests.dgl_tf.filled import fill_network

tf = sessions.tf

RELEASED_NAMES = {
    ("vgg", False): (30, "221739d7b677bb23"),
    ("resnet50", False): (267, "6014013ed8d7ed04"),
    ("resnet50se", False): (331, "596e7b0cc702cc14"),
    ("inceptionv3", False): (286, "88bc045aece370d4"),
    ("inceptionv3", True): (290, "42547d2c3b25c361"),
}
"""Variables of the released networks, DGL's and GRCAM's Inception; the sha256 of their names, shapes and kinds."""


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "batch_norm"), list(RELEASED_NAMES))
@pytest.mark.parametrize("training", [False, True])
def test_names_and_shapes_are_the_released_ones(arch, batch_norm, training):
    with sessions.new_graph():
        images = tf.placeholder(tf.float32, [None, 64, 64, 3])
        network = registry.build(arch, images, training=training, head_batch_norm=batch_norm)
        trainable = {variable.op.name for variable in tf.trainable_variables()}
        rows = sorted(
            f"{name} {'x'.join(map(str, variable.shape.as_list()))} {'trainable' if name in trainable else 'statistic'}"
            for name, variable in network.variables.items()
        )
        assert {variable.op.name for variable in tf.global_variables()} == set(network.variables)
        assert all(name == variable.op.name for name, variable in network.variables.items())
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
    assert (len(rows), digest) == RELEASED_NAMES[arch, batch_norm]


@pytest.mark.slow
@pytest.mark.parametrize("arch", registry.ARCHITECTURES)
def test_every_layer_on_offer_is_a_tap(arch):
    with sessions.new_graph():
        network = registry.build(arch, tf.placeholder(tf.float32, [None, 224, 224, 3]), 7)
        for number, name in enumerate(registry.LAYERS[arch]):
            assert network.tap(number)[0] == network.tap(str(number))[0] == name
        side = 14 if arch in ("vgg", "mobilenetv1") else 28
        assert network.features.shape.as_list()[1:3] == [side, side]
        assert network.head.shape.as_list() == [network.features.shape.as_list()[3], 7]
        assert network.logits.shape.as_list() == [None, 7]


def small(arch="mobilenetv1", classes=3, **changes):
    return registry.build(arch, tf.placeholder(tf.float32, [None, 32, 32, 3]), classes, **changes)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A filled MobileNet's arrays, and a folder of its files as .npz, safetensors and TensorFlow's checkpoints."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("filled")
    with sessions.new_graph(), sessions.session(1) as session:
        network = small()
        tf.get_variable("global_step", [], tf.int64, tf.zeros_initializer(), trainable=False)
        session.run(tf.global_variables_initializer())
        fill_network(session, network, seed=3)
        arrays = session.run(network.variables)
        first = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        first.save(session, str(folder / "inception_v3.ckpt"), write_meta_graph=False)
        tf.train.Saver().save(session, str(folder / "model-7"))
    weights.write_npz(folder / "a.npz", {f"{name}:0": value for name, value in arrays.items()})
    save_file(arrays, folder / "a.safetensors")
    return arrays, folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a.npz", "a.safetensors", "model-7", "model-7.index", "model-7.meta", ".", "inception_v3.ckpt"]
)
def test_every_kind_of_checkpoint_loads(filled, name):
    arrays, folder = filled
    with sessions.new_graph(), sessions.session(1) as session:
        network = small()
        registry.load(session, network, folder / name)
        for key, value in session.run(network.variables).items():
            np.testing.assert_array_equal(value, arrays[key])
    assert len(weights.open_checkpoint(folder / name).fingerprint()) == 64


@pytest.mark.slow
def test_networks_take_their_classes_from_the_checkpoint(tmp_path):
    head = {"MobilenetV1/Logits/Conv2d_1c_1x1/weights": np.zeros((1, 1, 1024, 5), np.float32)}
    weights.write_npz(tmp_path / "a.npz", head)
    with sessions.new_graph():
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        network = registry.build_for(weights.open_checkpoint(tmp_path / "a.npz"), "mobilenetv1", images)
        assert network.logits.shape.as_list() == [None, 5]


@pytest.mark.parametrize(
    ("arch", "name", "shape", "batch_norm"),
    [
        ("vgg", "linear_cub/W", (1024, 1000), False),
        ("vgg", "linear/W", (1024, 200), False),
        ("resnet50", "linearcub/W", (2048, 1000), False),
        ("inceptionv3", "InceptionV3/Logits/Conv2d_1c_1x1_200/weights", (1, 1, 1024, 200), False),
        ("inceptionv3", "InceptionV3/Logits/Conv2d_1c_1x1_1000/weights", (1, 1, 1024, 1000), True),
        ("mobilenetv1", "MobilenetV1/Logits/Conv2d_1c_1x1/weights", (1, 1, 1024, 10), False),
    ],
)
def test_the_classifier_is_found_under_any_released_name(tmp_path, arch, name, shape, batch_norm):
    arrays = {name: np.zeros(shape, np.float32)}
    if batch_norm:
        arrays["InceptionV3/Logits/add1/BatchNorm/beta"] = np.zeros(1024, np.float32)
    weights.write_npz(tmp_path / "head.npz", arrays)
    head = weights.open_checkpoint(tmp_path / "head.npz").head(arch)
    assert head == (name.rsplit("/", 1)[0], shape[-1], batch_norm)


@pytest.mark.slow
def test_what_differs_is_named(filled, tmp_path):
    name = "MobilenetV1/Conv2d_3_pointwise/weights"
    arrays = {key: value for key, value in filled[0].items() if key != name}
    weights.write_npz(tmp_path / "less.npz", {**arrays, "something/else": np.zeros(3, np.float32)})
    weights.write_npz(tmp_path / "shape.npz", {**arrays, name: np.zeros((1, 1, 128, 64), np.float32)})
    with sessions.new_graph(), sessions.session(1) as session:
        network = small()
        with pytest.raises(UserError, match=rf"1 of \d+ variables are not in .*{name}; it has 1 other: something/else"):
            registry.load(session, network, tmp_path / "less.npz")
        with pytest.raises(UserError, match=r"Conv2d_3_pointwise/weights has shape .*expected \(1, 1, 128, 128\)"):
            registry.load(session, network, tmp_path / "shape.npz")


@pytest.mark.slow
def test_equal_counts_are_reshaped_and_fresh_heads_left_alone(filled, tmp_path, capsys):
    """TensorFlow's own checkpoints are not: it refuses other shapes itself."""
    arrays, folder = filled
    name = "MobilenetV1/Conv2d_0/weights"
    assert files.match({name: (3, 3, 3, 32)}, weights.open_checkpoint(folder / "model-7"))[1] == []
    head = {"MobilenetV1/Logits/Conv2d_1c_1x1/weights": (1024, 3)}  # (1, 1, 1024, 3) there
    assert files.match(head, weights.open_checkpoint(folder / "model-7"))[1] == []
    with pytest.raises(UserError, match=r"Conv2d_0/weights has shape \(3, 3, 3, 32\); expected \(9, 96\)"):
        files.match({name: (9, 96)}, weights.open_checkpoint(folder / "model-7"))
    assert capsys.readouterr().out == ""
    files.match({name: (9, 96)}, weights.open_checkpoint(folder / "a.npz"))
    assert capsys.readouterr().out == (
        "note: a.npz: 1 of 1 arrays are reshaped: MobilenetV1/Conv2d_0/weights from (3, 3, 3, 32) to (9, 96)\n"
    )
    flat = {name: value.reshape(-1) for name, value in arrays.items()}
    weights.write_npz(tmp_path / "flat.npz", flat)
    with sessions.new_graph():
        values, missing = weights.match(small().variables, weights.open_checkpoint(tmp_path / "flat.npz"))
        assert missing == []
        assert all(values[name].shape == arrays[name].shape for name in arrays)
    with sessions.new_graph():
        checkpoint = weights.open_checkpoint(folder / "a.npz")
        _, missing = weights.match(small(classes=9).variables, checkpoint, fresh=("MobilenetV1/Logits",))
        assert missing == [f"MobilenetV1/Logits/Conv2d_1c_1x1/{leaf}" for leaf in ("weights", "biases")]


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/dgl-evil", "w"))


def test_nothing_is_unpickled(tmp_path):
    for name in ("a.npy", "a.npz", "a.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(UserError, match="unpickled|not a readable|damaged"):
            weights.open_checkpoint(tmp_path / name)
    np.savez(tmp_path / "objects.npz", a=np.array([Evil()], dtype=object))
    with pytest.raises(UserError, match=r"not a readable .npz of plain arrays"):
        weights.open_checkpoint(tmp_path / "objects.npz")


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 10, 300])
def test_damaged_files_are_refused(filled, tmp_path, cut):
    tmp_path = shutil.copytree(filled[1], tmp_path / "damaged")
    for name in ("a.npz", "a.safetensors", "model-7.index"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(UserError):
            weights.open_checkpoint(path)
    with pytest.raises(UserError, match="no such checkpoint"):
        weights.open_checkpoint(tmp_path / "model-8")


@pytest.mark.slow
def test_a_state_file_cannot_lead_elsewhere(filled, tmp_path):
    tmp_path = shutil.copytree(filled[1], tmp_path / "led")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/etc/../somewhere/model-7"\n')
    with pytest.raises(UserError, match="names none that is there"):
        weights.open_checkpoint(tmp_path)


def test_unknown_names_are_refused():
    with sessions.new_graph():
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        with pytest.raises(ValueError, match="unknown architecture 'alexnet'"):
            registry.build("alexnet", images)
        with pytest.raises(ValueError, match="vgg has no head with batch norm"):
            registry.build("vgg", images, head_batch_norm=True)
        with pytest.raises(ValueError, match="unknown data format"):
            registry.build("vgg", images, data_format="HWCN")
