"""Turns a page of Docs into a program, so that what it teaches is what runs.

    run_page.py script PAGE          a bash script that does what the page says, in order
    run_page.py recipes PAGE         a Swift program: `recipes LINE` runs the block that begins on that line
    run_page.py compare PAGE FOLDER  compares what the script printed with what the page shows

What happens to a block is said by a comment in the line before it:

    (nothing)              sh is run; swift, on a page of recipes, is run behind the page's prelude
    <!-- file: PATH -->    the block is written to PATH
    <!-- needs: torch -->  is run where Python has that module, and else reported as skipped
    <!-- exits: N -->      one command, whose exit code must be N
    <!-- prelude -->       what stands before each swift block of the page
    <!-- prints -->        what the block before has printed: lines in this order, `…` for anything
    <!-- shows: PATH -->   an excerpt of that file: its lines stand there in this order

The script wants a folder $out for what is printed, and on a page of recipes the program $recipes and a function `fresh`,
which makes a folder with checkpoints for each recipe and goes there.
"""

import os
import re
import sys


class Block:
    def __init__(self, line, language, comments, text):
        self.line, self.language, self.text = line, language, text
        self.marks = dict(comments)


def blocks(page):
    """The fenced blocks of a page, and at each heading of the second rank the heading."""
    with open(page, encoding="utf-8") as file:
        lines = file.read().split("\n")
    comments, number = [], 0
    while number < len(lines):
        line = lines[number]
        fence = re.fullmatch(r"```(\w*)", line)
        comment = re.fullmatch(r"<!-- (\w+)(?:: (.*?))? -->", line)
        number += 1
        if fence:
            end = lines.index("```", number)
            yield Block(number, fence.group(1), comments, "\n".join(lines[number:end]) + "\n")
            number, comments = end + 1, []
        elif comment:
            comments.append((comment.group(1), comment.group(2)))
        else:
            if comments:
                sys.exit(f"error: {page}:{number - 1}: a comment that is not before a block")
            if line.startswith("## "):
                yield line[3:]


def is_recipe(block):
    return block.language == "swift" and not block.marks.keys() & {"file", "prelude", "shows"}


def script(page):
    """Braces and no subshells: what one block sets, the next one has."""
    has_recipes = any(isinstance(block, Block) and is_recipe(block) for block in blocks(page))
    yield "set -euo pipefail"
    for block in blocks(page):
        if isinstance(block, str):
            if has_recipes:
                yield "fresh"
            continue
        marks = block.marks
        if marks.keys() & {"prints", "prelude", "shows"}:
            continue
        body = block.text
        if "file" in marks:
            path = marks["file"]
            body = f"mkdir -p \"$(dirname '{path}')\"\ncat >'{path}' <<'END OF BLOCK'\n{block.text}END OF BLOCK\n"
        elif is_recipe(block) and has_recipes:
            body = f'"$recipes" {block.line}\n'
        elif block.language != "sh":
            sys.exit(f"error: {page}:{block.line}: nothing is said about this block, so nothing would check it")
        if "exits" in marks:
            body = f"set +e\n{body}code=$?\nset -e\n[ $code = {marks['exits']} ] || {{ echo \"exit code $code\"; exit 1; }}\n"
        body = f"current={block.line}\n{{\n{body}}} >\"$out/{block.line}\" 2>&1"
        if "needs" in marks:
            module = marks["needs"]
            body = f"if python3 -c 'import {module}' 2>\"$out/python\"; then\n{body}\nelse\n" \
                f"echo '    {page}:{block.line}: skipped, because Python has no {module} here'\nfi"
        yield body


def recipes(page):
    found = [block for block in blocks(page) if isinstance(block, Block) and block.language == "swift"]
    prelude = "".join(block.text for block in found if "prelude" in block.marks)
    unused = "".join(f"_ = {name}\n" for name in re.findall(r"^let (\w+)", prelude, re.MULTILINE))
    found = [block for block in found if is_recipe(block)]
    lines = [line for block in found for line in (prelude + block.text).split("\n")]
    yield from sorted({line for line in lines if line.startswith("import ")} | {"import Cairn"})
    for block in found:
        body = [line for line in (prelude + unused + block.text).split("\n") if not line.startswith("import ")]
        yield f"\nfunc recipe{block.line}() throws {{\n    " + "\n    ".join(body).rstrip() + "\n}"
    yield "\nswitch CommandLine.arguments.last {"
    for block in found:
        yield f'case "{block.line}": try recipe{block.line}()'
    yield 'default: throw CairnError(.invalidArgument, "no such recipe")\n}'


def compare(page, folder):
    last, count, failed = None, 0, False
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            for line in (line for line in file if "warning: " in line):
                print(f"error: {page}:{name}: a warning was printed: {line.rstrip()}")
                failed = True
    for block in blocks(page):
        if isinstance(block, str):
            continue
        if not block.marks.keys() & {"prints", "shows"}:
            last = f"{folder}/{block.line}"
            continue
        try:
            with open(block.marks.get("shows") or last, encoding="utf-8") as file:
                found = iter(file.read().split("\n"))
        except FileNotFoundError:
            continue  # The block before was skipped, and that was said.
        count += 1
        for line in block.text.rstrip("\n").split("\n"):
            pattern = re.compile("[ ]*.*[ ]*".join(re.escape(part.strip()) for part in line.split("…")))
            if not any(pattern.fullmatch(candidate.strip()) for candidate in found):
                print(f"error: {page}:{block.line}: this line is not there: {line}")
                failed = True
                break
    print(f"    {page}: {count} outputs and excerpts are as shown")
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(*sys.argv[2:])
    print("\n".join({"script": script, "recipes": recipes}[sys.argv[1]](sys.argv[2])))
