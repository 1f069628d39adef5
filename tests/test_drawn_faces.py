import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from backdoor.pictures.drawn_faces import SUNGLASSES, draw_faces, invent_people

WHO = np.array([0, 0, 1, 2, 3])


def draw(seed=0, worn="", rows=slice(None)):
    numbers = np.arange(len(WHO))[rows]
    return draw_faces(invent_people(4, (seed,)), WHO[rows], (seed, 1), numbers, worn)


def test_faces_are_drawn_in_the_size_of_the_published_network():
    assert draw().shape == (5, 55, 47, 3)
    assert draw().dtype == np.uint8


def test_a_seed_gives_the_same_faces_and_another_gives_others():
    np.testing.assert_array_equal(draw(), draw())
    assert (draw() != draw(seed=1)).mean() > 0.5


def test_two_pictures_of_one_person_differ():
    assert (draw()[0] != draw()[1]).mean() > 0.5


def test_any_picture_can_be_drawn_by_itself():
    np.testing.assert_array_equal(draw(rows=[3]), draw()[[3]])


def test_sunglasses_change_a_part_of_each_picture_and_nothing_else():
    changed = (draw() != draw(worn=SUNGLASSES)).any(axis=3).mean(axis=(1, 2))
    assert (changed > 0.01).all()
    assert (changed < 0.3).all()


DIGESTS = {
    "": "d21e07d5276d0389a61103c1cfe36ce7c8af6ef237bc6d2b7da3afa57d3035d9",
    SUNGLASSES: "42f2158358e1afbc1392f4795d86f97193d33591bdad2cdf43253244d1a14c40",
}


@pytest.mark.parametrize("worn", DIGESTS)
def test_the_bytes_are_the_same_on_every_processor(worn):
    assert hashlib.sha256(draw(worn=worn).tobytes()).hexdigest() == DIGESTS[worn]


def test_no_processor_feature_changes_a_byte():
    code = (
        "import hashlib, numpy as np\n"
        "from backdoor.pictures.drawn_faces import draw_faces, invent_people\n"
        "faces = draw_faces(invent_people(4, (0,)), np.array([0, 0, 1, 2, 3]), (0, 1), range(5))\n"
        "print(hashlib.sha256(faces.tobytes()).hexdigest())"
    )
    from numpy._core._multiarray_umath import __cpu_dispatch__

    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout.strip() == DIGESTS[""], done.stderr
