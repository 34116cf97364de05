import dataclasses
import json

import pytest

from m3jax.serving import descriptors

FULL = descriptors.Descriptor(
    name="sign-2_b",
    description="Reads road signs, Schilder, 标志.",
    skills=("sign", "document"),
    questions=("What does the sign say?",),
    output_shape=(16, 64),
    input_shape=(64, 64, 3),
    output_dtype="bfloat16",
    device=descriptors.Device("phone", 2e12, 4e9, 3.5),
    link=descriptors.LinkStatistics(15.0, 2.5, 0.02, 0.001),
)
BARE = descriptors.Descriptor("x", "y", (), (1, 1))


@pytest.mark.parametrize("descriptor", [FULL, BARE])
def test_json_brings_the_same_back(descriptor):
    text = descriptors.to_json(descriptor)
    assert json.loads(text)["schema"] == descriptors.SCHEMA
    assert descriptors.from_json(text) == descriptor
    assert descriptors.to_json(descriptors.from_json(text)) == text


def test_what_is_left_out_has_its_default():
    text = json.dumps(
        {
            "schema": descriptors.SCHEMA,
            "name": "x",
            "description": "y",
            "skills": [],
            "output_shape": [1, 1],
        }
    )
    assert descriptors.from_json(text) == BARE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "m3jax.expert/2"}, "schema 'm3jax.expert/1'"),
        ({"name": "Sign"}, "name is 'Sign'; use 1 to 64 of a-z"),
        ({"name": "a/../b"}, "name is"),
        ({"name": ""}, "name is ''"),
        ({"name": None}, "name is None"),
        ({"description": " "}, "description must be text"),
        ({"description": "x" * 4001}, "description must be text"),
        ({"skills": "sign"}, "skills must be a tuple"),
        ({"skills": [1]}, "each of skills must be text"),
        ({"questions": ["x"] * 257}, "questions must be a tuple of at most 256"),
        ({"output_shape": [16]}, r"output_shape is \(16,\); it must be \(L, D\)"),
        ({"output_shape": [16, 0]}, "output_shape must be"),
        ({"output_shape": [16, True]}, "output_shape must be"),
        ({"output_shape": [2**40, 2**40]}, "product of at most"),
        ({"input_shape": [1.0]}, "input_shape must be"),
        ({"input_dtype": "object"}, "input_dtype is 'object'; choose one of"),
        ({"output_dtype": "uint8"}, "output_dtype is 'uint8'; choose one of"),
        ({"device": 3}, "device must be an object"),
        ({"device": {"cores": 2}}, "device has unknown fields: cores"),
        ({"device": {"power_w": -1}}, r"device.power_w is -1; it must lie in \[0, inf"),
        ({"device": {"power_w": 10**400}}, "power_w must be a finite number"),
        ({"device": {"power_w": True}}, "power_w must be a finite number"),
        ({"link": {"loss_rate": 1.5}}, r"loss_rate is 1.5; it must lie in \[0, 1\]"),
        ({"extra": 1}, "descriptor has unknown fields: extra"),
    ],
)
def test_each_wrong_field_is_named(change, told):
    fields = json.loads(descriptors.to_json(FULL)) | change
    with pytest.raises(ValueError, match=told):
        descriptors.from_json(json.dumps(fields))


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="lacks description, skills, output_shape"):
        descriptors.from_json(
            json.dumps({"schema": descriptors.SCHEMA, "name": "sign"})
        )


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "3", "NaN", '{"schema": NaN}', "[" * 60_000),
        *(None, b"{}", " " * 70_000),
    ],
)
def test_what_is_no_descriptor_is_refused(text):
    with pytest.raises(ValueError, match="descriptor"):
        descriptors.from_json(text)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"device": {"name": "x"}}, "give a Device"),
        ({"link": 3.0}, "give LinkStatistics or None"),
        ({"device": None}, "give a Device"),
    ],
)
def test_python_fields_are_checked_too(fields, told):
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(FULL, **fields)


def test_a_name_gives_one_uri():
    assert descriptors.uri("sign") == "m3jax://experts/sign"
