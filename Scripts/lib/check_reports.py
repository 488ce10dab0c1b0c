"""Runs the cases in Fixtures/reports/*/expected.json and compares: see Fixtures/reports/README.md for what a case says."""
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile


class Wrong(Exception):
    pass


def unpack(report, folder):
    """A copy of a report, with what is stored as .gz expanded."""
    shutil.copytree(report, folder)
    for path, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".packed.gz"):
                whole = os.path.join(path, name)
                with gzip.open(whole, "rb") as packed, open(whole[: -len(".packed.gz")], "wb") as file:
                    shutil.copyfileobj(packed, file)
                os.remove(whole)


def run(tool, arguments, places):
    # By replacement, not by format(), since patterns may hold braces.
    for name, place in places.items():
        arguments = [argument.replace("{" + name + "}", place) for argument in arguments]
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode < 0:
        raise Wrong(f"{' '.join(arguments)} ended by signal {-done.returncode}")
    return done


def expect_words(words, text, where):
    for word in words:
        if word not in text:
            raise Wrong(f"{where} does not say '{word}', but: {text.strip()[:600]}")


def expect_digest(case, tool, places):
    done = run(tool, ["digest", case["digest"], "--json", *case.get("digest_options", [])], places)
    if done.returncode != 0:
        raise Wrong(f"digest ended with {done.returncode}: {done.stderr.strip()[:600]}")
    document = json.loads(done.stdout)
    found = {tensor["fqn"]: [tensor["dtype"], tensor["shape"], tensor["sha256"]] for tensor in document["tensors"]}
    if "tensors" in case:
        expected = case["tensors"]
        for name in sorted(set(found) | set(expected)):
            if name not in expected:
                raise Wrong(f"a tensor more: {name}")
            if name not in found:
                raise Wrong(f"the tensor {name} is missing")
            if found[name] != expected[name]:
                raise Wrong(f"{name} is {found[name]}, not {expected[name]}")
    for path, value in case.get("objects", []):
        if {"path": path, "value": value} not in [{"path": o["path"], "value": o["value"]} for o in document["objects"]]:
            raise Wrong(f"the value {path} is not {value}")
    expect_words(case.get("digest_says", []), done.stderr, "digest")
    return f"{len(found)} tensors, {len(document['objects'])} values as expected"


def check(case, tool, places):
    told = []
    commands = case.get("run", [])
    for number, arguments in enumerate(commands):
        done = run(tool, arguments, places)
        expected = case.get("exit", 0) if number == len(commands) - 1 else 0
        if done.returncode != expected:
            raise Wrong(f"exit {done.returncode}, not {expected}: {(done.stderr or done.stdout).strip()[:600]}")
        if number == len(commands) - 1:
            expect_words(case.get("says", []), done.stderr, "standard error")
            expect_words(case.get("prints", []), done.stdout, "standard output")
            for word in case.get("never_says", []):
                if word in done.stderr + done.stdout:
                    raise Wrong(f"it says '{word}'")
            told.append(f"exit {expected}" + "".join(f", “{word}”" for word in case.get("says", []) + case.get("prints", [])))
    for path in case.get("absent", []):
        for name, place in places.items():
            path = path.replace("{" + name + "}", place)
        if os.path.exists(path):
            raise Wrong(f"{path} was left")
    if "digest" in case:
        told.append(expect_digest(case, tool, places))
    if not told:
        raise Wrong("the case expects nothing")
    return "; ".join(told)


def main():
    tool, root, only = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    passed = failed = 0
    for name in only or sorted(os.listdir(root)):
        expected = os.path.join(root, name, "expected.json")
        if not os.path.exists(expected):
            if only:
                sys.exit(f"error: there is no {expected}")
            continue
        with open(expected) as file:
            cases = json.load(file)["cases"]
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                report, out = os.path.join(folder, "report"), os.path.join(folder, "out")
                unpack(os.path.join(root, name), report)
                os.mkdir(out)
                try:
                    told = check(case, tool, {"in": report, "out": out})
                    passed += 1
                    print(f"ok      {name}: {case['what']}: {told}", flush=True)
                except (Wrong, subprocess.TimeoutExpired, json.JSONDecodeError) as problem:
                    failed += 1
                    print(f"FAILED  {name}: {case['what']}: {problem}", flush=True)
    print(f"{passed} reports as expected, {failed} not")
    sys.exit(failed > 0 or passed == 0)


main()
