"""Writes a page for each module that lists its public symbols, and names the pages on the landing page.

    python3 reference_pages.py GRAPHS CATALOGUE MODULE…

GRAPHS has a folder for each module with its symbol graphs; CATALOGUE is a copy of the DocC catalogue.
"""

import collections
import json
import os
import sys

HEADINGS = [
    ("Protocols", ("swift.protocol",)),
    ("Structures", ("swift.struct",)),
    ("Classes", ("swift.class",)),
    ("Enumerations", ("swift.enum",)),
    ("Functions", ("swift.func",)),
    ("Others", ("swift.typealias", "swift.var", "swift.macro")),
]


def top_level_symbols(folder, module):
    with open(os.path.join(folder, module, f"{module}.symbols.json"), encoding="utf-8") as file:
        graph = json.load(file)
    for symbol in graph["symbols"]:
        if len(symbol["pathComponents"]) == 1:
            yield symbol["kind"]["identifier"], symbol["pathComponents"][0]


def page(module, symbols):
    lines = [f"# {module}", "", f"The public symbols of the module `{module}`.", "", "## Topics"]
    for heading, kinds in HEADINGS:
        names = sorted({name for kind, name in symbols if kind in kinds})
        if names:
            lines += ["", f"### {heading}", ""] + [f"- ``{name}``" for name in names]
    return "\n".join(lines) + "\n"


def main(graphs, catalogue, modules):
    symbols = {module: list(top_level_symbols(graphs, module)) for module in modules}
    owners = collections.Counter(name for module in modules for _, name in set(symbols[module]))
    for name in (name for name, count in owners.items() if count > 1):
        sys.exit(f"error: the public symbol {name} is in several modules: a link to it would be ambiguous")
    listed = [module for module in modules if symbols[module]]
    for module in listed:
        with open(os.path.join(catalogue, f"Module-{module}.md"), "w", encoding="utf-8") as file:
            file.write(page(module, symbols[module]))
    with open(os.path.join(catalogue, "Cairn.md"), "a", encoding="utf-8") as file:
        file.write("\n## Topics\n\n### Modules\n\n" + "".join(f"- <doc:Module-{module}>\n" for module in listed))
    print(", ".join(f"{module} {len(symbols[module])}" for module in listed))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
