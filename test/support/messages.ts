/**
 * The Postgres protocol, as far as those between client and server must know it.
 */

/** A message of the Postgres protocol. */
export interface Message {
  readonly type: string
  readonly body: Buffer
  readonly whole: Buffer
}

/** Cuts a stream of bytes into messages: a letter, the length, the rest. */
export const messages = () => {
  let rest = Buffer.alloc(0)
  return (chunk: Buffer): ReadonlyArray<Message> => {
    rest = Buffer.concat([rest, chunk])
    const whole: Array<Message> = []
    while (rest.length >= 5) {
      const length = 1 + rest.readInt32BE(1)
      if (rest.length < length) break
      whole.push({
        type: String.fromCharCode(rest[0] ?? 0),
        body: rest.subarray(5, length),
        whole: rest.subarray(0, length)
      })
      rest = rest.subarray(length)
    }
    return whole
  }
}
