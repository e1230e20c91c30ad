"""The commands of headwise, one file each; each file's `command` is a plain click command."""
