"""Print one of the README's two commands, with its virtual environment put elsewhere.

python .ci/readme_command.py run|test FOLDER
"""

import re
import sys
from pathlib import Path

name, folder = sys.argv[1:]
readme = (Path(__file__).parents[1] / "README.md").read_text()
block = re.search(rf"<!-- command: {name} -->\n```bash\n(.+?)\n```", readme, re.DOTALL)
if block is None:
    sys.exit(f"README.md has no '<!-- command: {name} -->' before a bash block")
print(block[1].replace(".venv", folder))
