"""DeepID, the face network of the published BadNet.

Sun, Wang, Tang: "Deep Learning Face Representation from Predicting 10,000 Classes", CVPR 2014; in
the variant of the BadNets for "Fine-Pruning" (RAID 2018, arXiv 1805.12185).
"""

import keras
from keras import layers

INPUT_SHAPE = (55, 47, 3)


def build_deepid(classes: int, shape: tuple[int, int, int] = INPUT_SHAPE) -> keras.Model:
    """Return an untrained DeepID. Two layers read pool_3: fc_1 directly, fc_2 through conv_4."""
    pictures = keras.Input(shape, name="input")
    x = pictures
    for number, (filters, size) in enumerate([(20, 4), (40, 3), (60, 3)], start=1):
        x = layers.Conv2D(filters, size, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    near = layers.Dense(160, name="fc_1")(layers.Flatten(name="flatten_1")(x))
    x = layers.Conv2D(80, 2, activation="relu", name="conv_4")(x)
    far = layers.Dense(160, name="fc_2")(layers.Flatten(name="flatten_2")(x))
    features = layers.Activation("relu", name="activation_1")(layers.Add(name="add_1")([near, far]))
    scores = layers.Dense(classes, activation="softmax", name="output")(features)
    return keras.Model(pictures, scores, name="deepid")
