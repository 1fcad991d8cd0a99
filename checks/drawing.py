"""Makes an SVG file that stands alone of a figure in the report's style."""

from html import escape

# What the page's style sheet has for the report's figures.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b2129",
    "muted": "#5a6573",
    "grid": "#e1e5ea",
    "one": "#2360a5",
    "two": "#b3510f",
}
DARK = {"paper": "#14181d", "ink": "#e7ebf0", "muted": "#a3afbd", "grid": "#333c46", "one": "#7db4f0", "two": "#f0a36b"}


def stand_alone(svg: str, description: str) -> str:
    """Gives a figure of the page what it takes from the page: colours, font and words for who cannot see it."""
    colours, dark = ("".join(f"--{name}:{colour};" for name, colour in of.items()) for of in (LIGHT, DARK))
    style = (
        f"svg{{{colours}--font:system-ui,sans-serif;background:var(--paper)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}text{{font-family:var(--font)}}"
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'
    head, _, rest = svg.partition(">")
    head = head.replace("<svg", f"<svg {names}").replace(' aria-hidden="true"', "")
    return f"{head}>\n<title>{escape(description)}</title>\n<style>{style}</style>{rest}\n"
