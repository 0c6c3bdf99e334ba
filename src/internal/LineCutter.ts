/**
 * Cuts bytes into lines, at `\n`, `\r\n` or `\r`. What it keeps of a line has an end: of one that is longer nothing is kept
 * but its length.
 */

/** A line: its bytes, or nothing where it is too long, and its length. */
export interface Line {
  readonly content: Buffer | undefined
  readonly length: number
}

const lineFeed = 10
const carriageReturn = 13

/** Cuts one stream of bytes. */
export class LineCutter {
  readonly #most: number
  #parts: Array<Buffer> = []
  #length = 0
  /** The last byte was a carriage return: a line feed after it ends no other line. */
  #returned = false

  /** `most`: the most bytes of a line that are kept. */
  constructor(most: number) {
    this.#most = most
  }

  /** The lines that end in these bytes. */
  push(bytes: Uint8Array): Array<Line> {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const lines: Array<Line> = []
    let start = 0
    if (this.#returned && buffer[0] === lineFeed) start = 1
    if (buffer.length > 0) this.#returned = buffer[buffer.length - 1] === carriageReturn
    let returns = buffer.indexOf(carriageReturn, start)
    let feeds = buffer.indexOf(lineFeed, start)
    while (returns !== -1 || feeds !== -1) {
      const isReturn = feeds === -1 || (returns !== -1 && returns < feeds)
      const end = isReturn ? returns : feeds
      this.#keep(buffer.subarray(start, end))
      lines.push(this.#line())
      start = end + (isReturn && buffer[end + 1] === lineFeed ? 2 : 1)
      if (returns !== -1 && returns < start) returns = buffer.indexOf(carriageReturn, start)
      if (feeds !== -1 && feeds < start) feeds = buffer.indexOf(lineFeed, start)
    }
    this.#keep(buffer.subarray(start))
    return lines
  }

  /** The line that has no end, if there is one. */
  rest(): Array<Line> {
    return this.#length === 0 ? [] : [this.#line()]
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#length += part.length
    if (this.#length > this.#most) this.#parts = []
    // a copy: a small part of a chunk would keep all of it
    else this.#parts.push(Buffer.from(part))
  }

  #line(): Line {
    const line = {
      content: this.#length > this.#most ? undefined : Buffer.concat(this.#parts, this.#length),
      length: this.#length
    }
    this.#parts = []
    this.#length = 0
    return line
  }
}
