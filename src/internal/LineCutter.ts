/**
 * Cuts bytes into lines, at `\n`, `\r\n` or `\r`. Memory is bounded: of a line that is too long only its length is
 * kept.
 */

/** A line: its bytes (undefined when it is too long), and its length. */
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
  /** The last byte was a carriage return: a line feed after it does not end another line. */
  #returned = false

  /** `most`: the most bytes that are kept of a line. */
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

  /** The last line, if it has no line end. */
  rest(): Array<Line> {
    return this.#length === 0 ? [] : [this.#line()]
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#length += part.length
    if (this.#length > this.#most) this.#parts = []
    // a copy: a slice would keep the whole chunk in memory
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
