"""Asks the safetensors library for its verdict on every file here, and writes expected.json: python truth.py, with safetensors, torch.

One file is refused that the library reads: dup.safetensors names a tensor twice, which the format forbids; another parser would take
the other one.
"""
import glob, hashlib, json, os

import numpy
import safetensors.numpy

os.chdir(os.path.dirname(os.path.abspath(__file__)))
STRICTER = {"dup.safetensors": "the header names a tensor twice"}
WORDS = {
    "bad_size": "another size than type and shape need", "bom": "offset 8: expected a value, found byte 0xef",
    "exp_num": "expected an integer", "float_shape": "expected an integer", "hole": "leave a hole in the data or overlap",
    "huge_shape": "element count overflows", "i4": 'the element type "I4" is unknown', "lone_surrogate": "half of a surrogate pair",
    "lower_dtype": 'the element type "f32" is unknown', "meta_list": "expected an object", "meta_nested": "expected a string",
    "meta_number": "expected a string", "neg_shape": "expected a size, found -2", "nul_pad": "found byte 0x00",
    "overlap": "leave a hole in the data or overlap", "trailing_junk": "goes on behind the last tensor",
    "trailing_zero": "goes on behind the last tensor", "unknown_dtype": "is unknown",
}
cases = []
for name in sorted(glob.glob("*.safetensors")):
    case = {"what": name}
    try:
        tensors = safetensors.numpy.load_file(name)
    except Exception as error:
        case["what"] += f" (the library: {str(error)[:100]})"
        tensors = None
    if tensors is None or name in STRICTER:
        words = STRICTER.get(name) or WORDS[name.removesuffix(".safetensors")]
        unsupported = "unknown" in words
        cases.append(case | {"run": [["inspect", "{in}/" + name]], "exit": 2, "says": [name, words]})
        cases.append(case | {"run": [["verify", "{in}/" + name]], "exit": 2 if unsupported else 1})
        continue
    entries = {}
    for key, array in tensors.items():
        assert array.dtype == numpy.float32
        entries[key] = ["F32", list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    cases.append(case | {"run": [["verify", "--deep", "{in}/" + name]], "digest": "{in}/" + name, "tensors": entries})
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
