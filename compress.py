"""All stages after the first in one command: from a trained checkpoint to a fine-tuned smaller one."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry
    from ultralytics.pruning.stages import compress_options, compressing

if __name__ == "__main__":
    entry.run(compress_options.parser(), compressing.compress_stage)
