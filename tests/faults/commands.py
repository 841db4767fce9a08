"""The project's long commands at the smallest size that still has several steps, batches or files."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """One command, as it is run in an empty folder of its own.

    Attributes:
        name: in tables.
        module: what `python -m` is told.
        arguments: `{cub}` is the data set, `{voc}` that of the segmentation, `{ref}` the folder of the undisturbed runs,
            where each command's own folder has its name; everything is written to the current folder.
        framework: torch or tensorflow; which server forks it.
        whole: files that are either absent or as the undisturbed run left them, at any moment.
        workers: it has other processes.
        needs: commands whose undisturbed results it reads.
    """

    name: str
    module: str
    arguments: str
    framework: str = "torch"
    whole: tuple[str, ...] = ()
    workers: bool = False
    needs: tuple[str, ...] = ()

    def argv(self, **folders: Path) -> list[str]:
        return [word.format(**folders) for word in self.arguments.split()]


CUB = "--data.name cub --data.root {cub}"
SPOL = "--data.name cub --datapath {cub}"
SPOL_TRAIN = f"{SPOL} --data.split train --out out --resize 72 --crop 64 --epochs 3 --batch_size 6 --no-pretrained " \
    "--runtime.device cpu --runtime.workers 2 --runtime.save-every 1"  # fmt: skip
VOC = "--data.name voc --data.root {voc}"
SEG_TRAIN = "--out out --backbone mobilenet_v1 --pretrained none --epochs 2 --batch-size 3 --crop 80 " \
    "--runtime.device cpu --runtime.workers 2 --runtime.save-every 1"  # fmt: skip
GRCAM_FILES = "--classify-save-path class.txt --bounding-box-save-path boxes/"
GRCAM_REF = "--classify-save-path {ref}/grcam-maps/class.txt --bounding-box-save-path {ref}/grcam-maps/boxes/"

COMMANDS = [
    Command("demo-data", "common.prepare",
            "demo --root out --recipe.train-per-class 1 --recipe.test-per-class 1 --lists lists",
            whole=("out/images.txt",), workers=True),
    Command("cam-train", "common.pytorch.cam",
            f"train {CUB} --data.split train --out out --no-pretrained --epochs 3 --batch-size 6 --augmentation.resize 72 "
            "--augmentation.crop 64 --runtime.device cpu --runtime.workers 2 --runtime.save-every 1",
            whole=("out/final.pth",), workers=True),
    Command("cam-localize", "common.pytorch.cam",
            f"localize {CUB} --checkpoint {{ref}}/cam-train/out/final.pth --out out --crops 1 --batch-size 2 --device cpu",
            workers=True, needs=("cam-train",)),
    Command("bas-train", "bas.train",
            f"{CUB} --data.split train --out out --arch mobilenet --pretrained none --epochs 2 --batch-size 6 "
            "--warmup-steps 9 --augmentation.resize 72 --augmentation.crop 64 --validate test --runtime.device cpu",
            whole=("out/final.pth",), workers=True),
    Command("bas-inference", "bas.inference",
            f"{CUB} --checkpoint {{ref}}/bas-train/out/final.pth --out out --crops 1 --batch-size 2 --device cpu",
            workers=True, needs=("bas-train",)),
    Command("spol-cls-train", "spol.cls.train", f"{SPOL_TRAIN} --arch mobilenet_v1",
            whole=("out/final.pth", "out/model-2", "out/model-3"), workers=True),
    Command("spol-cls-test", "spol.cls.test",
            f"{SPOL} --checkpoint {{ref}}/spol-cls-train/out/final.pth --out out --npy --device cpu --batch_size 2",
            whole=("out/classification.json", "out/top1top5.npy"), workers=True, needs=("spol-cls-train",)),
    Command("spol-cam-train", "spol.cam.train", f"{SPOL_TRAIN} --backbone mobilenet_v1",
            whole=("out/final.pth",), workers=True),
    Command("spol-cam-test", "spol.cam.test",
            f"{SPOL} --data.split train --checkpoint {{ref}}/spol-cam-train/out/final.pth --masks out --device cpu "
            "--batch_size 2 --processes 2",
            workers=True, needs=("spol-cam-train",)),
    Command("spol-seg-train", "spol.seg.train", f"{SPOL_TRAIN} --backbone mobilenet_v1 --masks {{ref}}/spol-cam-test/out",
            whole=("out/final.pth",), workers=True, needs=("spol-cam-test",)),
    Command("spol-seg-test", "spol.seg.test",
            f"{SPOL} --checkpoint {{ref}}/spol-seg-train/out/final.pth --out out --device cpu --batch_size 2 "
            "--top1top5 {ref}/spol-cls-test/out/classification.json",
            workers=True, needs=("spol-seg-train", "spol-cls-test")),
    Command("dgl-train", "dgl_tf.train",
            f"{CUB} --data.split train --out out --arch mobilenetv1 --epochs 4 --steps-per-epoch 2 --batch-size 4 "
            "--final-size 64 --workers 0 --threads 1 --validate test --validate-every 1",
            framework="tensorflow", whole=("out/final.npz",)),
    Command("dgl-test", "dgl_tf.test",
            f"{CUB} --load {{ref}}/dgl-train/out --out out --clayer 1 2 --crops 1 --batch-size 2 --threads 1",
            framework="tensorflow", needs=("dgl-train",)),
    Command("grcam-maps", "grcam.generate_predicted_bbox",
            f"{CUB} --mode mobilenetv1 --load {{ref}}/dgl-train/out/final.npz --out out --cam --frames squash crop --crops 1 "
            f"--batch-size 2 {GRCAM_FILES}",
            framework="tensorflow", whole=("class.txt", *(f"boxes/{th}.txt" for th in (0.85, 0.9, 0.95))),
            needs=("dgl-train",)),
    Command("grcam-groups", "grcam.pseudo_bbox.rebuild_val",
            "--image-path {cub}/images --classify-save-path {ref}/grcam-maps/class.txt --rebuild-val-save-path out --copy",
            needs=("grcam-maps",)),
    Command("grcam-pseudo", "grcam.pseudo_bbox.main",
            "--rebuild-val-save-path {ref}/grcam-groups/out --pseudo-bounding-box-save-path pseudo.txt --arch mobilenet_v1 "
            "--pretrained-path {ref}/cam-train/out/final.pth --device cpu --batch-size 2",
            whole=("pseudo.txt",), needs=("grcam-groups", "cam-train")),
    Command("grcam-revise", "grcam.revise_bbox",
            f"{CUB} {GRCAM_REF} --pseudo-bounding-box-save-path {{ref}}/grcam-pseudo/pseudo.txt --out out --json errors.json",
            whole=("errors.json",), needs=("grcam-maps", "grcam-pseudo")),
    Command("seg-cam-train", "bas.segmentation.train", f"cam {VOC} --data.split train {SEG_TRAIN}",
            whole=("out/final.pth",), workers=True),
    Command("seg-bas-train", "bas.segmentation.train", f"bas {VOC} --data.split train {SEG_TRAIN}",
            whole=("out/final.pth",), workers=True),
    Command("seg-maps", "bas.segmentation.maps",
            f"{VOC} --data.split train --bas {{ref}}/seg-bas-train/out/final.pth --cam {{ref}}/seg-cam-train/out/final.pth "
            "--scales 1 0.5 --out out --device cpu",
            workers=True, needs=("seg-bas-train", "seg-cam-train")),
    Command("seg-labels", "bas.segmentation.ir_labels", "--maps {ref}/seg-maps/out --out out --crf none --workers 2",
            workers=True, needs=("seg-maps",)),
    Command("seg-irn-train", "bas.segmentation.train", f"irn --labels {{ref}}/seg-labels/out {SEG_TRAIN}",
            whole=("out/final.pth",), workers=True, needs=("seg-labels",)),
    Command("seg-masks", "bas.segmentation.masks",
            "--maps {ref}/seg-maps/out --irn {ref}/seg-irn-train/out/final.pth --out out --split train --pad 64 --device cpu",
            workers=True, needs=("seg-maps", "seg-irn-train")),
    Command("layers", "common.pytorch.maps.localize",
            f"{CUB} --checkpoint {{ref}}/cam-train/out/final.pth --methods cam dgl --layers 0 1 --out out --device cpu "
            "--batch-size 2",
            workers=True, needs=("cam-train",)),
    Command("label", "wsol.command",
            "label {cub}/images --checkpoint {ref}/cam-train/out/final.pth --format coco --out out --device cpu",
            workers=True, needs=("cam-train",)),
    Command("evaluate", "common.evaluate", "{ref}/cam-localize/out/crop {ref}/cam-localize/out/squash --json rows.json",
            whole=("rows.json",), workers=True, needs=("cam-localize",)),
    Command("export", "common.export", "{ref}/cam-localize/out/crop --out out --protocols bas spol",
            whole=("out/audit.csv", "out/coco.json"), workers=True, needs=("cam-localize",)),
    Command("report", "common.report", "{ref}/cam-localize/out/crop {ref}/bas-inference/out/crop --out page.html",
            whole=("page.html",), workers=True, needs=("cam-localize", "bas-inference")),
]  # fmt: skip

BY_NAME = {command.name: command for command in COMMANDS}


def with_needs(names: list[str]) -> list[Command]:
    """The commands named and all whose results they read, in an order in which they can be run."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += BY_NAME[name].needs
    return [command for command in COMMANDS if command.name in wanted]
