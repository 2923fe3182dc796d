"""One example of every command, shown at the end of its `--help`; a test reads every one of them as the command would."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "run": "designspace run quickstart --workers 2",
    "plan": "designspace plan my-sweep.yaml",
    "status": "designspace status results/quickstart",
    "report": "designspace report quickstart --html quickstart.html",
    "view": "designspace view quickstart",
    "trace": "designspace trace quickstart trace-dev-00001 h2o+none oracle --model trace-llama --budget 80",
    "query": 'designspace query quickstart "SELECT mechanism, avg(correct::int) FROM samples GROUP BY ALL"',
    "export": "designspace export quickstart --table arms --out table.tex",
    "effects": "designspace effects sweeps/factorial.yaml",
    "doctor": "designspace doctor results/quickstart",
    "list": "designspace list scoring",
    "show": "designspace show alpha",
    "import": "designspace import smollm2-135m.gguf --out models/smollm2-135m",
    "check": "designspace check pocket-llama",
    "calibrate": "designspace calibrate my-model/ q-stats --text corpus.txt",
    "bench": "designspace bench pocket-llama snapkv --budget 48",
    "grade-cases": "designspace grade-cases cases.jsonl",
    "register": "designspace register alpha-study",
    "amend": 'designspace amend alpha-study --reason "a second budget" --study alpha-study-2.yaml',
    "tune": "designspace tune alpha-study",
    "confirm": "designspace confirm alpha-study",
    "verify": "designspace verify alpha-study",
}
