"""The paper's ablation studies on own data: losses, methods and sources at equal budget."""
