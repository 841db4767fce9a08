import pytest

from common.system.wording import number_of, some


@pytest.mark.parametrize(("number", "said"), [(0, "0 images are"), (1, "1 image is"), (2, "2 images are")])
def test_a_number_and_its_words(number, said):
    assert number_of(number, "image is", "images are") == said


def test_the_first_names_of_many():
    assert some(["a"], 1) == "a"
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert some(["a", "b"], shown=1) == "a and 1 more"
    assert some([]) == ""
