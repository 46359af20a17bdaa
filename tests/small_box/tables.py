"""Tables in Markdown."""


def mib(count):
    return f"{count / (1 << 20):.1f}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
