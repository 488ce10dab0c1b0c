"""Completes the pages of the modules: names the public symbols that they leave out, and the pages on the landing page.

    reference_pages.py GRAPHS CATALOGUE CODE MODULE…

GRAPHS has a folder for each module with its symbol graphs; CATALOGUE is a copy of the DocC catalogue, with an article
Modules/Module-NAME.md for each module. The code of each article is written to CODE/NAME/main.swift, so that it can be checked.
"""

import collections
import json
import os
import re
import sys


def top_level_symbols(folder, module):
    with open(os.path.join(folder, module, f"{module}.symbols.json"), encoding="utf-8") as file:
        graph = json.load(file)
    return sorted({symbol["pathComponents"][0] for symbol in graph["symbols"] if len(symbol["pathComponents"]) == 1})


def complete(article, symbols):
    """Lists what of the module's symbols the article's topics leave out."""
    with open(article, encoding="utf-8") as file:
        text = file.read()
    listed = re.findall(r"^- ``(.*)``$", text, re.MULTILINE)
    for name in listed:
        if name not in symbols:
            sys.exit(f"error: {article}: {name} is no public symbol of this module")
    others = [name for name in symbols if name not in listed]
    if others:
        with open(article, "a", encoding="utf-8") as file:
            file.write("\n### Others\n\n" + "".join(f"- ``{name}``\n" for name in others))
    return "".join(re.findall(r"^```swift\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def main(graphs, catalogue, code, modules):
    symbols = {module: top_level_symbols(graphs, module) for module in modules}
    owners = collections.Counter(name for module in modules for name in symbols[module])
    for name in (name for name, count in owners.items() if count > 1):
        sys.exit(f"error: the public symbol {name} is in several modules: a link to it would be ambiguous")
    listed = [module for module in modules if symbols[module]]
    for module in listed:
        article = os.path.join(catalogue, "Modules", f"Module-{module}.md")
        if not os.path.exists(article):
            sys.exit(f"error: the module {module} has no article: {article}")
        os.makedirs(os.path.join(code, module))
        with open(os.path.join(code, module, "main.swift"), "w", encoding="utf-8") as file:
            file.write(complete(article, symbols[module]))
    with open(os.path.join(catalogue, "Cairn.md"), "a", encoding="utf-8") as file:
        file.write("\n### Modules\n\n" + "".join(f"- <doc:Module-{module}>\n" for module in listed))
    print(", ".join(f"{module} {len(symbols[module])}" for module in listed))


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
