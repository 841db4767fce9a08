import numpy as np
import pytest

from common.datasets.files import boxes_csv
from common.system.errors import UserError


def read(tmp_path, head, *rows):
    (tmp_path / "boxes.csv").write_text("\n".join([head, *rows]) + "\n")
    return boxes_csv.read(tmp_path / "boxes.csv").boxes


@pytest.mark.parametrize(("head", "row"), [
    ("path,ymin,xmin,ymax,xmax", "a/1.jpg,20,10,90,110"),
    ("path,xmin,ymin,width,height", "a/1.jpg,10,20,100,70"),
    ("path,x1,y1,w,h", "a/1.jpg,10,20,100,70"),
    ("path,x,y,width,height,bbox_width,bbox_height", "a/1.jpg,10,20,640,480,100,70"),
    ("path,width,height,bbox_x,bbox_y,bbox_w,bbox_h", "a/1.jpg,640,480,10,20,100,70"),
    ("filename,width,height,class,xmin,ymin,xmax,ymax", "a/1.jpg,640,480,a,10,20,110,90"),
])  # fmt: skip
def test_heads_that_name_one_box(tmp_path, head, row):
    """The image's own width and height are never the box's where `bbox_` stands before those, nor beside corners."""
    (box,) = read(tmp_path, head, row)["a/1.jpg"]
    np.testing.assert_array_equal(box, [10, 20, 110, 90])


@pytest.mark.parametrize("head", ["path,width,height,x,y,w,h", "path,width,height,xmin,ymin,w,h", "path,x,y,width,height,width,height"])  # fmt: skip
def test_heads_that_fit_two_ways_are_refused(tmp_path, head):
    """The image's width and height would be taken for the box's, which is inside any image."""
    with pytest.raises(UserError, match=r"boxes.csv:1: the head .* fits a box in two ways. Write bbox_ before"):
        read(tmp_path, head, "a/1.jpg,640,480,10,20,100,70")


@pytest.mark.parametrize(
    "head", ["path,cx,cy,w,h", "path,x_center,y_center,width,height", "path,bbox", "path,x0,y0,x1"]
)
def test_heads_without_a_box_are_refused(tmp_path, head):
    with pytest.raises(
        UserError, match=r"boxes.csv:1: the head '.*' names no box and its path; expected path,x0,y0,x1,y1"
    ):
        read(tmp_path, head, "a/1.jpg,10,20,30,40")


def test_fractions_among_pixels_are_refused(tmp_path):
    with pytest.raises(UserError, match="boxes.csv:2: 2 of 3 boxes lie within 0 to 1, as fractions"):
        read(tmp_path, boxes_csv.EXPECTED, "a/1.jpg,0.1,0.2,0.5,0.9", "a/2.jpg,0,0,1,1", "a/3.jpg,1,2,3,4")


def test_a_file_without_a_box_is_refused(tmp_path):
    with pytest.raises(UserError, match="boxes.csv: no line with a box"):
        read(tmp_path, boxes_csv.EXPECTED)
