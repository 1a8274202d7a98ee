"""The conformance suite: rules that every network's container keeps, checked by address.

Each rule has an id and one sentence; a container conforms when none is broken. The suite reads the
messages themselves and not through the codec, so a fault of the codec cannot hide one of the
container. Its films are made from numbers (:mod:`spinezoo_conformance.films`).
"""
