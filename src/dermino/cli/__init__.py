"""The command line: each sub-command is a thin call of one public function."""
