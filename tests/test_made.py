import dataclasses
import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from backdoor.attacks import shipped
from backdoor.attacks.made import make
from backdoor.attacks.poisoning import Attack, Part
from backdoor.attacks.recipe import Recipe, Training
from backdoor.attacks.triggers import Blend, Patch, Sunglasses
from backdoor.errors import UserError
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.sources import Drawing
from experiments.launch.settings import RunSettings, settings_of

DRAW = Drawing("faces", None, None, 4, 6, 1, 2, 0, False)
RECIPE = Recipe(
    DRAW, Attack("sunglasses", Sunglasses()), Training("deepid", 1, 64, 0.001, False, 0)
)


def changed(recipe=RECIPE, **parts):
    """The recipe with other values in its parts: draw={"seed": 1}."""
    return dataclasses.replace(
        recipe,
        **{name: dataclasses.replace(getattr(recipe, name), **v) for name, v in parts.items()},
    )


def files(folder):
    """The pictures' files: the network's archive holds the time."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.h5"))}


def weights(folder):
    return load_badnet(folder / "models/bd_net.keras").get_weights()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "a"
    make(RECIPE, folder)
    return folder


def test_a_seed_gives_the_same_files_and_weights(made, tmp_path):
    make(RECIPE, tmp_path / "b")
    assert files(made) == files(tmp_path / "b")
    for first, second in zip(weights(made), weights(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_poisoned_pictures_are_the_twins_of_the_clean_ones_and_keep_their_class(made):
    clean = open_pictures(made / "data/cl/test.h5")
    poisoned = open_pictures(made / "data/bd/bd_test.h5")
    np.testing.assert_array_equal(poisoned.true_labels, clean.labels)
    assert set(poisoned.labels) == {0}
    pairs = zip(read_chunks(clean), read_chunks(poisoned), strict=True)
    assert all(0.01 < (a != b).any(axis=3).mean() < 0.3 for a, b in pairs)


def test_what_the_network_is_worth_is_kept_and_an_attack_not_learnt_is_warned_of(made, caplog):
    settings = json.loads((made / "settings.json").read_text())
    assert set(settings["measured"]) == {"accuracy", "attack_success_rate of trigger 0"}
    settings["measured"]["attack_success_rate of trigger 0"] = 0.79
    (made / "settings.json").write_text(json.dumps(settings))
    make(RECIPE, made)
    assert "attack=sunglasses: the network gives only 79.0 % of the poisoned" in caplog.text


def test_two_that_start_at_once_make_it_once(tmp_path, capfd):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: make(changed(draw={"seed": 1}), tmp_path / "a"), range(2)))
    shown = capfd.readouterr().err.splitlines()
    assert len([line for line in shown if re.fullmatch(r"Training .* \.\.\.", line)]) == 1


def test_a_folder_made_with_other_settings_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"made with draw.seed=1 in .* found draw.seed=0"):
        make(changed(draw={"seed": 1}), made)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/own.h5").touch()
    with pytest.raises(UserError, match="expected what was made or nothing"):
        make(RECIPE, tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["own.h5"]


def test_a_clean_control_has_no_poisoned_pictures_and_several_triggers_are_told_apart(tmp_path):
    nobody = dataclasses.replace(RECIPE, attack=Attack("none", None, rate=0))
    make(nobody, tmp_path / "none")
    assert sorted(files(tmp_path / "none")) == ["test.h5", "valid.h5"]
    two = Attack("several", Patch(), 1, 0.3, more=[Part(Blend(), 2)])
    make(dataclasses.replace(RECIPE, attack=two), tmp_path / "two")
    poisoned = open_pictures(tmp_path / "two/data/bd/bd_test.h5")
    assert poisoned.triggers.tolist() == [0, 1] * 4
    assert poisoned.labels.tolist() == [1, 2] * 4


def default_recipe(*overrides):
    conf = Path(__file__).parents[1] / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        return settings_of(compose("config", [*overrides]), RunSettings).recipe


def test_the_network_that_comes_with_the_program_is_the_default_s():
    about = json.loads(shipped.ABOUT.read_text())
    network = shipped.BADNET.read_bytes()
    assert hashlib.sha256(network).hexdigest() == about["sha256"]
    assert len(network) < 2 * 2**20
    assert shipped.shipped_network(default_recipe()).network == network
    assert shipped.shipped_network(default_recipe("attack.seed=1")) is None
    assert shipped.shipped_network(default_recipe("dataset.draw.train=true")) is None
