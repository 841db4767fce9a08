"""Several processes that train one network, one a GPU, on one machine or many: Horovod by tensorpack's trainer."""

from dataclasses import dataclass

from common.system.errors import UserError


@dataclass(frozen=True)
class Share:
    """This process's part of the training.

    Attributes:
        rank: of this process, from 0; the first writes all files.
        count: of processes.
    """

    rank: int = 0
    count: int = 1


ALONE = Share()


def joined() -> Share:
    """This process's share among those that `horovodrun` started.

    Raises:
        UserError: Horovod is not installed.
    """
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        raise UserError(
            f"--horovod needs Horovod ({error})", expected="horovod 0.28.1, built for the installed TensorFlow",
            do="HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 pip install --no-build-isolation "
               "horovod==0.28.1",
        ) from error  # fmt: skip
    hvd.init()
    return Share(hvd.rank(), hvd.size())
