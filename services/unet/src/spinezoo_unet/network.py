"""U-Net.

References:
    Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
    MICCAI 2015, https://arxiv.org/abs/1505.04597

Differences from the paper, as in the Keras form that the study used: padded convolutions, so that
the output is as large as the input; nearest upsampling and a 2 x 2 convolution instead of a
transposed one; dropout of one half on the two deepest levels. With ``filters=64``, one input
channel, ``normalise=False`` and a binary output it has 31,031,685 parameters.

With ``normalise=True`` (the ``lite`` preset) every 3 x 3 convolution is followed by batch
normalisation: trained from scratch on a processor it converges several times faster.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

LEVELS = 5
"""Resolutions of the paper, the full one included."""

DROPOUT = 0.5


def _double_convolution(x: Any, filters: int, *, normalise: bool, name: str) -> Any:
    """(N, h, w, any) -> (N, h, w, filters): two 3 x 3 convolutions with ReLU."""
    for index in (1, 2):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=not normalise,
            kernel_initializer="he_normal",
            name=f"{name}_conv{index}",
        )(x)
        if normalise:
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn{index}")(x)
        x = layers.ReLU(name=f"{name}_relu{index}")(x)
    return x


def build_unet(
    height: int,
    width: int,
    channels: int,
    *,
    filters: int = 64,
    outputs: int = 6,
    normalise: bool = False,
    binary_head: bool = False,
    levels: int = LEVELS,
    most_filters: int | None = None,
) -> keras.Model:
    """A U-Net that answers class logits.

    Args:
        height: Rows of the input, a multiple of 2 ** (levels - 1), so 16 for five levels.
        width: Columns of the input, a multiple of the same.
        channels: Channels of the input.
        filters: Filters on the highest resolution; they double on every level down.
        outputs: Classes, background included.
        normalise: Batch normalisation after every 3 x 3 convolution.
        binary_head: Whether to add the two-filter convolution that the study's Keras form has
            before its single output; only to hold weights of that form.
        levels: Resolutions, the full one included.
        most_filters: Filters that no level goes beyond; None lets them double to the last one.

    Returns:
        A model from (N, height, width, channels) ``float32`` to (N, height, width, outputs) logits.

    Raises:
        ValueError: A side is not such a multiple, there are fewer than two levels, or more filters
            on the highest resolution than the most.
    """
    if levels < 2:
        raise ValueError(f"levels {levels} is below 2; a U-Net needs two resolutions or more")
    if most_filters is not None and most_filters < filters:
        raise ValueError(
            f"most_filters {most_filters} is below filters {filters}; "
            "raise it, or leave it out for no limit"
        )
    filters_of = [filters * 2**level for level in range(levels)]
    if most_filters is not None:
        filters_of = [min(wanted, most_filters) for wanted in filters_of]
    multiple = 2 ** (levels - 1)
    for side, name in ((height, "height"), (width, "width")):
        if side % multiple:
            raise ValueError(
                f"{name} {side} is not a multiple of {multiple}; "
                f"pad to {-(-side // multiple) * multiple}"
            )
    film = keras.Input((height, width, channels), name="film")
    x = film
    skips = []
    for level in range(levels):
        # h, w halve and the filters double from level to level.
        x = _double_convolution(x, filters_of[level], normalise=normalise, name=f"down{level}")
        if level >= levels - 2:
            x = layers.Dropout(DROPOUT, name=f"drop{level}")(x)
        if level < levels - 1:
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    for level in reversed(range(levels - 1)):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"up{level}_nearest")(x)
        x = layers.Conv2D(
            filters_of[level],
            2,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"up{level}_conv",
        )(x)
        x = layers.Concatenate(name=f"up{level}_skip")([skips[level], x])
        x = _double_convolution(x, filters_of[level], normalise=normalise, name=f"up{level}")
    if binary_head:
        x = layers.Conv2D(2, 3, padding="same", activation="relu", name="binary_conv")(x)
    logits = layers.Conv2D(outputs, 1, dtype="float32", name="logits")(x)
    return keras.Model(film, logits, name="unet")
