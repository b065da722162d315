"""All stages after the first in one command: from a trained checkpoint to a fine-tuned smaller one."""

import sys

try:
    from ultralytics.pruning import stages
    from ultralytics.pruning.compression import command
except ImportError as error:
    sys.exit(print(f"compress.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    stages.run(command.parser(), command.compress_stage)
