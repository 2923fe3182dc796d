"""python -m docs.generate: writes the pages of the reference that are made from the code.

No model is run. `python -m docs.generate.retention` draws the pictures, which takes minutes; pages show those that are there.
"""

from __future__ import annotations

from docs.generate.pages import REFERENCE, generated, outdated

if __name__ == "__main__":
    for file in outdated():
        target = REFERENCE / file
        if file in generated():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(generated()[file], encoding="utf-8")
            print(f"wrote {target}")
        else:
            target.unlink()
            print(f"removed {target}")
