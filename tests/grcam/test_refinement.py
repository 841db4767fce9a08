import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from grcam import graph
from grcam.config import GRADIENTS
from tests.grcam import reference


def made(images=2, side=5, channels=7, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.normal(size=(images, side, side + 1, channels)), 0)
    weights, bias = rng.normal(size=(channels, classes)), rng.normal(size=classes)
    labels = rng.integers(0, classes, images)
    return features, features.mean(axis=(1, 2)) @ weights + bias, weights, bias, labels


def by_back_propagation(features, weights, bias, labels, kind):
    """The released graph: TensorFlow's own gradient of the cross-entropy, normalized, times the features."""
    with tf.Graph().as_default(), tf.Session() as session:
        f, w = tf.constant(features, tf.float32), tf.constant(weights, tf.float32)
        scores = tf.matmul(tf.reduce_mean(f, [1, 2]), w) + tf.constant(bias, tf.float32)
        target = tf.one_hot(labels, weights.shape[1])
        if kind == "released":
            loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=10 * target, logits=scores)
        else:
            loss = -10 * tf.reduce_sum(target * tf.nn.log_softmax(scores), axis=1)
        (gradient,) = tf.gradients(loss, [f])
        mask = tf.nn.l2_normalize(tf.sigmoid(f), [1, 2, 3]) - tf.nn.l2_normalize(gradient, [1, 2, 3])
        found = tf.einsum("nhwc,nc->nhw", f * mask, tf.gather(tf.transpose(w), labels))
        return session.run([gradient, mask, found])


def in_graph(features, scores, weights, labels, *kind):
    """What the command computes, in float32."""
    with tf.Graph().as_default(), tf.Session() as session:
        arrays = [tf.constant(array, tf.float32) for array in (features, scores, weights)]
        return session.run(graph.maps(*arrays, tf.constant(labels), *kind))


@pytest.mark.parametrize("kind", GRADIENTS)
def test_closed_form_is_tensorflows_gradient(kind):
    """1e-5 of the greatest value; quirk Q1 with both its settings."""
    features, scores, weights, bias, labels = made()
    gradient, mask, expected = by_back_propagation(features, weights, bias, labels, kind)
    assert np.ptp(gradient, axis=(1, 2)).max() == 0
    delta = reference.loss_gradient(scores, labels, kind)
    found = reference.channel_gradient(weights, delta, features.shape[1] * features.shape[2])
    np.testing.assert_allclose(found, gradient[:, 0, 0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(reference.mask(features, found), mask, rtol=1e-5, atol=1e-6)
    refined = reference.refined_map(features, scores, weights, labels, kind)
    np.testing.assert_allclose(refined, expected, atol=1e-5 * np.abs(expected).max())
    maps = in_graph(features, scores, weights, labels, kind)
    np.testing.assert_allclose(maps.refined, expected, atol=1e-5 * np.abs(expected).max())
    plain = reference.class_activation_map(features, weights, labels)
    np.testing.assert_allclose(maps.plain, plain, rtol=1e-4, atol=1e-5)


def test_the_released_gradient_is_the_default():
    features, scores, weights, _, labels = made()
    default, released = (
        in_graph(features, scores, weights, labels),
        in_graph(features, scores, weights, labels, "released"),
    )
    np.testing.assert_array_equal(default.refined, released.refined)
    with pytest.raises(ValueError, match="^unknown loss gradient 'more', expected one of released, true$"):
        in_graph(features, scores, weights, labels, "more")


def test_the_two_gradients_by_hand():
    scores, labels = np.zeros((1, 2)), np.array([1])
    assert reference.loss_gradient(scores, labels).tolist() == [[0.5, -9.5]]
    assert reference.loss_gradient(scores, labels, "true").tolist() == [[5, -5]]
    with pytest.raises(ValueError, match="unknown loss gradient 'more', expected one of released, true"):
        reference.loss_gradient(scores, labels, "more")


def test_scores_of_any_size_are_taken():
    found = reference.loss_gradient(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([0, 0]))
    assert found.tolist() == [[-9.5, 0.5], [-9, 0]]


def test_the_mask_by_hand():
    """Two positions and three channels. Features of 0 have a gate of 1/2, its norm sqrt(6 / 4); G = (3, 4, 0) has the
    norm sqrt(2 * 25).
    """
    found = reference.mask(np.zeros((1, 1, 2, 3)), np.array([[3.0, 4.0, 0.0]]))
    expected = 1 / np.sqrt(6) - np.array([3, 4, 0]) / np.sqrt(50)
    np.testing.assert_allclose(found, [[[expected, expected]]])


def test_a_gradient_that_nearly_vanishes_by_hand():
    """Sure of the label, as the exact gradient can be: delta = 10 p with p = 1 / (1 + e^20), G = -10 p / 2 positions,
    and |G| is under the floor of 1e-6 that it is divided by.
    """
    features, weights = np.ones((1, 1, 2, 1)), np.array([[1.0, 0.0]])
    found = reference.refined_map(features, np.array([[20.0, 0.0]]), weights, np.array([0]), "true")
    gradient = -10 / (1 + np.exp(20)) / 2
    np.testing.assert_allclose(found, np.full((1, 1, 2), 1 / np.sqrt(2) - gradient / 1e-6), rtol=1e-6)


def test_a_small_gradient_in_the_graph_by_hand():
    """delta = (-9.5, 0.5), and G = -9.5e-8 / 2 positions is divided by the floor of 1e-6."""
    found = in_graph(np.ones((1, 1, 2, 1)), np.zeros((1, 2)), np.array([[1e-8, 0.0]]), np.array([0]))
    np.testing.assert_allclose(found.refined, np.full((1, 1, 2), 1e-8 * (1 / np.sqrt(2) + 0.0475)), rtol=1e-5)


def test_images_do_not_see_each_other():
    """Quirk Q13: a batch gives what one image at a time gives."""
    features, scores, weights, _, labels = made(images=4)
    together = reference.refined_map(features, scores, weights, labels)
    for number in range(4):
        one = slice(number, number + 1)
        alone = reference.refined_map(features[one], scores[one], weights, labels[one])
        np.testing.assert_allclose(alone, together[one])


def test_a_gradient_that_vanishes_is_not_divided_by():
    features = np.ones((1, 2, 2, 3))
    mask = reference.mask(features, np.zeros((1, 3)))
    np.testing.assert_allclose(mask, 1 / np.sqrt(12))
