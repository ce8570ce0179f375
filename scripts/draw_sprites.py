"""Draw the things of the picture world from the colour emoji font, once; the sheet is shipped, the font is not needed.

    python scripts/draw_sprites.py --font /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf

Debian's package fonts-noto-color-emoji has the font (SIL Open Font License 1.1). Writes
vlmtools/reference/sprites/things.png: one row per theme, eight things each, 64 pixels square.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlmtools.reference.world import THINGS

EMOJI = "🚗🚌🚚🚲🏍🚆✈⛵🐕🐈🐎🐑🐄🐦🐘🐻🍎🍌🥕🍕🎂🥪☕🔪🪑🛏🛋⏰📕💻📺🏺"
SHEET = Path(__file__).parents[1] / "vlmtools/reference/sprites/things.png"
DRAWN, KEPT, COLUMNS = 109, 64, 8


def sprite(letter: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One thing, cut to its own outline and centred on a transparent square."""
    canvas = Image.new("RGBA", (2 * DRAWN, 2 * DRAWN))
    ImageDraw.Draw(canvas).text((20, 20), letter, font=font, embedded_color=True)
    drawn = canvas.crop(canvas.getbbox())
    side = max(drawn.size)
    square = Image.new("RGBA", (side, side))
    square.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return square.resize((KEPT, KEPT), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    font = ImageFont.truetype(parser.parse_args().font, DRAWN)
    sheet = Image.new("RGBA", (COLUMNS * KEPT, len(THINGS) // COLUMNS * KEPT))
    for index, letter in enumerate(EMOJI):
        sheet.paste(sprite(letter, font), (index % COLUMNS * KEPT, index // COLUMNS * KEPT))
    SHEET.parent.mkdir(exist_ok=True)
    sheet.save(SHEET, optimize=True)


if __name__ == "__main__":
    main()
