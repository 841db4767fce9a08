"""Layers of DGL's networks: TensorFlow layers in NHWC or NCHW, under variable names that are given whole."""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf


class Layers:
    """Layers in one data format; keeps every variable and tap that it makes.

    Args:
        training: batch norm by the batch's own statistics.
        data_format: NHWC or NCHW, in which every layer takes and gives its values.
        update_statistics: in training, collect the moving averages' updates.
    """

    def __init__(self, training: bool, data_format: str, update_statistics: bool):
        if data_format not in ("NHWC", "NCHW"):
            raise ValueError(f"unknown data format {data_format!r}, expected NHWC or NCHW")
        self.training, self.data_format, self.update_statistics = training, data_format, update_statistics
        self.channels_axis = 3 if data_format == "NHWC" else 1
        self.space = [1, 2] if data_format == "NHWC" else [2, 3]
        self.taps: dict[str, tf.Tensor] = {}
        self.variables: dict[str, tf.Variable] = {}

    def tap(self, name: str, values: tf.Tensor) -> tf.Tensor:
        """Keep `values` under a name, and pass them on."""
        self.taps[name] = values
        return values

    def channels(self, values: tf.Tensor) -> int:
        """Number of channels."""
        return int(values.shape[self.channels_axis])

    def variable(self, name: str, shape: Sequence[int], initializer, trainable: bool = True) -> tf.Variable:
        """A variable whose whole name is `name`."""
        # Not `tf.get_variable(name)` within scopes: released names hold slashes that are no scopes.
        made = tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable)
        self.variables[name] = made
        return made

    def strides(self, stride: int) -> list[int]:
        """A stride in the order that the data format asks for."""
        return [1, stride, stride, 1] if self.data_format == "NHWC" else [1, 1, stride, stride]

    def convolution(
        self, values: tf.Tensor, name: str, filters: int, kernel: tuple[int, int], stride: int, initializer
    ) -> tf.Tensor:
        """A convolution with SAME padding, no bias; `name` is the kernel's own."""
        shape = [*kernel, self.channels(values), filters]
        weights = self.variable(name, shape, initializer)
        return tf.nn.conv2d(values, weights, self.strides(stride), "SAME", data_format=self.data_format)

    def bias(self, values: tf.Tensor, name: str, filters: int) -> tf.Tensor:
        """Add a bias; `name` is the variable's own."""
        added = self.variable(name, [filters], tf.zeros_initializer())
        return tf.nn.bias_add(values, added, data_format=self.data_format)

    def batch_norm(
        self, values: tf.Tensor, scope: str, names: tuple[str, str], epsilon: float, decay: float,
        gamma: float | None = 1.0,
    ) -> tf.Tensor:  # fmt: skip
        """Batch norm; its moving variance takes the unbiased one of the batch, as TensorFlow's fused kernel gives it.

        Args:
            values: to be normalized.
            scope: of the variables.
            names: of the moving mean and variance.
            epsilon: added to the variance.
            decay: of the moving averages.
            gamma: its initial value; None where there is none.
        """
        filters = self.channels(values)
        beta = self.variable(f"{scope}/beta", [filters], tf.zeros_initializer())
        if gamma is None:
            scale = tf.ones([filters])
        else:
            scale = self.variable(f"{scope}/gamma", [filters], tf.constant_initializer(gamma))
        mean = self.variable(f"{scope}/{names[0]}", [filters], tf.zeros_initializer(), trainable=False)
        variance = self.variable(f"{scope}/{names[1]}", [filters], tf.ones_initializer(), trainable=False)
        if not self.training:
            values, _, _ = tf.nn.fused_batch_norm(
                values, scale, beta, mean, variance, epsilon, self.data_format, is_training=False
            )
            return values
        values, batch_mean, batch_variance = tf.nn.fused_batch_norm(
            values, scale, beta, epsilon=epsilon, data_format=self.data_format, is_training=True
        )
        if self.update_statistics:
            for moving, of_batch in ((mean, batch_mean), (variance, batch_variance)):
                update = moving.assign_sub((1 - decay) * (moving - of_batch))
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return values

    def max_pool(self, values: tf.Tensor, size: int, stride: int, padding: str = "SAME") -> tf.Tensor:
        """The greatest of each window of `size` by `size`."""
        window = self.strides(size)
        return tf.nn.max_pool(values, window, self.strides(stride), padding, data_format=self.data_format)

    def average_pool(self, values: tf.Tensor) -> tf.Tensor:
        """3 x 3, stride 1; pixels of the padding are not counted."""
        return tf.nn.avg_pool(values, self.strides(3), self.strides(1), "SAME", data_format=self.data_format)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """Global average pooling, (N, C)."""
        return tf.reduce_mean(values, self.space)

    def concatenated(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One after the other along the channels."""
        return tf.concat(values, self.channels_axis)

    def linear(self, pooled: tf.Tensor, scope: str, classes: int, initializer=None) -> tuple[tf.Tensor, tf.Tensor]:
        """tensorpack's fully connected layer on (N, C): its output, and its weights (C, classes)."""
        initializer = initializer or tf.random_normal_initializer(stddev=0.01)
        kernel = self.variable(f"{scope}/W", [int(pooled.shape[1]), classes], initializer)
        bias = self.variable(f"{scope}/b", [classes], tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(pooled, kernel), bias), tf.identity(kernel)

    def pointwise(self, pooled: tf.Tensor, scope: str, classes: int, initializer) -> tuple[tf.Tensor, tf.Tensor]:
        """TF-Slim's 1 x 1 convolution on (N, C): its output, and its weights (C, classes)."""
        kernel = self.variable(f"{scope}/weights", [1, 1, int(pooled.shape[1]), classes], initializer)
        bias = self.variable(f"{scope}/biases", [classes], tf.zeros_initializer())
        head = tf.reshape(kernel, [int(pooled.shape[1]), classes])
        return tf.nn.bias_add(tf.matmul(pooled, head), bias), head
