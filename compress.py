"""All stages after the first in one command: from a trained checkpoint to a fine-tuned smaller one."""

import sys

try:
    from ultralytics.pruning.command_line import entry
    from ultralytics.pruning.stages import compress_options, compressing
except ImportError as error:
    sys.exit(print(f"compress.py: error: {error} (run it in its repository)", file=sys.stderr) or 2)

if __name__ == "__main__":
    entry.run(compress_options.parser(), compressing.compress_stage)
