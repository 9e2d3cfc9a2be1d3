"""One loss term a file; the paper's equation stands in its docstring."""
