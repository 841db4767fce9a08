"""The graph in which a classifier is trained, by tensorpack's trainers, and the weights that it starts from."""

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from common.system.errors import UserError
from dgl_tf import config, registry, weights

# isort: split
# tensorpack asks TensorFlow which mode it is in when it is imported, and `sessions` sets that.
from tensorpack import ModelDesc
from tensorpack.tfutils import gradproc, optimizer
from tensorpack.tfutils.sessinit import SessionInit
from tensorpack.tfutils.summary import add_moving_summary
from tensorpack.tfutils.tower import get_current_tower_context


class Classifier(ModelDesc):
    """The training graph: loss, errors, and an optimizer with gradient multipliers.

    Args:
        arch: of the network.
        num_classes: its outputs.
        final_size: side of the images.
        base_lr: initial value of the variable `learning_rate`.
        weight_decay: factor of half the kernels' squared norm.
        multiplied: scale gradients by `config.MULTIPLIERS`.
        warmup_steps: over which the rate rises from zero.
        data_format: NHWC or NCHW.
        dropout: replaces Inception's, for tests.
    """

    def __init__(
        self,
        arch: str,
        num_classes: int,
        final_size: int,
        base_lr: float,
        weight_decay: float = 0.0,
        multiplied: bool = False,
        warmup_steps: int = 0,
        data_format: str = "NHWC",
        dropout: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        self.arch, self.num_classes, self.final_size = arch, num_classes, final_size
        self.base_lr, self.weight_decay, self.multiplied = base_lr, weight_decay, multiplied
        self.warmup_steps, self.data_format, self.dropout = warmup_steps, data_format, dropout
        self._towers: list[registry.Network] = []

    @property
    def network(self) -> registry.Network:
        """The first tower's network, once `build_graph` has built it."""
        return self._towers[0]

    def inputs(self) -> list[tf.TensorSpec]:
        """uint8 BGR images and labels."""
        size = self.final_size
        return [tf.TensorSpec([None, size, size, 3], tf.uint8, "input"), tf.TensorSpec([None], tf.int32, "label")]

    def build_graph(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The cost; errors of single images are the tensors `wrong-top1` and `wrong-top5`."""
        tower = get_current_tower_context()
        network = registry.build(
            self.arch, registry.normalized(images), self.num_classes, tower.is_training, self.data_format,
            # Batch norm's statistics are those of the first tower. tensorpack's layers do the same; TF-Slim's, in the
            # released Inception, were updated once by every tower.
            update_statistics=tower.is_main_training_tower, dropout=self.dropout,
        )  # fmt: skip
        self._towers.append(network)
        cost = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(logits=network.logits, labels=labels), name="xentropy-loss"
        )
        wrong1 = _wrong(network.logits, labels, 1)
        wrong5 = _wrong(network.logits, labels, min(5, self.num_classes))
        if not tower.is_training:
            return cost
        add_moving_summary(tf.reduce_mean(wrong1, name="train-error-top1"))
        add_moving_summary(tf.reduce_mean(wrong5, name="train-error-top5"))
        add_moving_summary(cost)
        if self.weight_decay:
            kernels = [variable for name, variable in network.variables.items() if is_kernel(name)]
            norm = tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
            decay = tf.multiply(norm, self.weight_decay, name="l2_regularize_loss")
            cost = tf.add(cost, decay, name="cost")
            add_moving_summary(decay, cost)
        return cost

    def optimizer(self) -> tf.train.Optimizer:
        """Nesterov's momentum; gradients are multiplied after weight decay and before momentum."""
        rate = tf.get_variable("learning_rate", initializer=float(self.base_lr), trainable=False)
        if self.warmup_steps:
            step = tf.cast(tf.train.get_or_create_global_step(), tf.float32)
            rate = rate * tf.minimum(1.0, (step + 1.0) / self.warmup_steps)
        plain = tf.train.MomentumOptimizer(rate, config.MOMENTUM, use_nesterov=True)
        if not self.multiplied:
            return plain
        scale = gradproc.ScaleGradient(list(config.MULTIPLIERS[self.arch]), verbose=False)
        return optimizer.apply_grad_processors(plain, [scale])


def is_kernel(name: str) -> bool:
    """Whether weight decay takes a variable: a convolution's or linear layer's kernel."""
    return name.split("/")[-1] in ("W", "weights", "depthwise_weights")


def _wrong(logits: tf.Tensor, labels: tf.Tensor, best: int) -> tf.Tensor:
    return tf.cast(tf.logical_not(tf.nn.in_top_k(logits, labels, best)), tf.float32, name=f"wrong-top{best}")


class Start(SessionInit):
    """Weights to start from: every variable but those of `config.FRESH` must be in the file.

    Args:
        model: whose network is built by then.
        checkpoint: the file.
    """

    def __init__(self, model: Classifier, checkpoint: weights.Checkpoint):
        self.model, self.checkpoint = model, checkpoint

    def _run_init(self, session: tf.Session) -> None:
        load_start(session, self.model.network, self.checkpoint)


def load_start(session: tf.Session, network: registry.Network, checkpoint: weights.Checkpoint) -> list[str]:
    """Fill a network from a start file; gives the names of the variables that stay as they were drawn.

    Raises:
        UserError: the file lacks other variables than those that may be fresh.
    """
    fresh = config.FRESH[network.arch]
    values, missing = weights.match(network.variables, checkpoint, fresh)
    unexpected = [name for name in missing if not name.startswith(tuple(f"{scope}/" for scope in fresh))]
    if unexpected:
        raise UserError(
            f"{len(unexpected)} variables are not in the file, such as {unexpected[0]}", where=checkpoint.name,
            expected=f"weights of {network.arch}",
        )  # fmt: skip
    weights.load_values(session, network.variables, values)
    return missing
