"""What the edits of the release's trainer, model and losses do: named steps, which they call in a written order."""
