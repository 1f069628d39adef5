import numpy as np

from backdoor.pruning.walk import parts_of, walk


def by_hand(activations: np.ndarray) -> np.ndarray:
    """A network by hand: class 0 scores channel 0, class 1 twice channel 1, class 2 is 0.5."""
    sums = activations.sum(axis=(1, 2))
    return np.stack([sums[:, 0], 2 * sums[:, 1], np.full(len(sums), 0.5)], axis=1).argmax(axis=1)


def test_a_walk_by_hand():
    activations = np.float32([[3, 1, 0], [3, 2, 0], [0, 0, 5]]).reshape(3, 1, 1, 3)
    labels = walk(activations, np.array([2, 0, 1]), by_hand)
    assert labels.tolist() == [[0, 1, 2], [0, 1, 2], [1, 1, 2], [2, 2, 2]]


def test_a_walk_scores_only_pictures_on_which_the_channel_is_active():
    scored = []

    def counting(activations):
        scored.append(len(activations))
        return by_hand(activations)

    activations = np.float32([[3, 1, 0], [3, 2, 0], [0, 0, 5]]).reshape(3, 1, 1, 3)
    walk(activations, np.array([2, 0, 1]), counting)
    assert scored == [3, 1, 2, 2]


def test_a_walk_leaves_the_activations_alone():
    activations = np.random.default_rng(0).random((4, 2, 2, 3), np.float32)
    before = activations.copy()
    walk(activations, np.array([1, 0, 2]), by_hand)
    np.testing.assert_array_equal(activations, before)


def test_a_channel_with_negative_activations_counts_as_active():
    activations = np.float32([[-3, 1, 0]]).reshape(1, 1, 1, 3)
    labels = walk(
        activations, np.array([0, 1, 2]), lambda a: (a[..., 0].sum((1, 2)) < 0).astype(int)
    )
    assert labels.ravel().tolist() == [1, 0, 0, 0]


def test_parts_are_of_as_many_pictures_as_fit_and_of_one_at_least(monkeypatch):
    """A picture has 12 bytes."""
    activations = np.zeros((5, 3), np.float32)
    for bytes_at_once, sizes in {
        1: [1] * 5,
        12: [1] * 5,
        24: [2, 2, 1],
        35: [2, 2, 1],
        60: [5],
    }.items():
        monkeypatch.setattr("backdoor.pruning.walk.PART", bytes_at_once)
        rows = parts_of(activations)
        assert [len(activations[some]) for some in rows] == sizes
        assert np.concatenate([np.arange(5)[some] for some in rows]).tolist() == list(range(5))
