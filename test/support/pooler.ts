/**
 * A pooler in transaction mode, as PgBouncer is run: a client has a server's session for one transaction at a time, and
 * another one for the next. Whatever a program keeps in its session is somebody else's then. In statement mode it also ends
 * the connection of a client that begins a transaction.
 */
import * as net from "node:net"
import { type Message, messages } from "./messages.ts"

interface Session {
  readonly socket: net.Socket
  /** What the server said when it began. */
  readonly greeting: Buffer
  heard: (message: Message) => void
}

/** A running pooler. */
export interface Pooler {
  readonly port: number
  /** How often a client's next transaction was in another session than its last one. */
  readonly moved: () => number
  readonly close: () => Promise<void>
}

const startup = (user: string, database: string): Buffer => {
  const fields = Buffer.from(`user\0${user}\0database\0${database}\0\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(fields.length + 8, 0)
  head.writeInt32BE(196_608, 4)
  return Buffer.concat([head, fields])
}

const openSession = (upstream: URL): Promise<Session> =>
  new Promise((resolve, reject) => {
    const socket = net.connect(Number(upstream.port), upstream.hostname)
    socket.setNoDelay(true)
    socket.on("error", reject)
    const greeting: Array<Buffer> = []
    const read = messages()
    const session: Session = { socket, greeting: Buffer.alloc(0), heard: () => undefined }
    session.heard = (message) => {
      greeting.push(message.whole)
      if (message.type === "Z") resolve(Object.assign(session, { greeting: Buffer.concat(greeting) }))
    }
    socket.on("data", (chunk) => {
      for (const message of read(chunk)) session.heard(message)
    })
    socket.write(startup(upstream.username, upstream.pathname.slice(1)))
  })

/** What it tells a client that begins a transaction in statement mode. */
const refusal = ((): Buffer => {
  const fields = Buffer.from(
    "SFATAL\0VFATAL\0C08P01\0Mtransaction blocks not allowed in statement pooling mode\0\0"
  )
  const head = Buffer.from("E\0\0\0\0")
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
})()

/** A simple query that ends a transaction. */
const rollback = Buffer.from("Q\0\0\0\x0drollback\0")

/** Starts a pooler with this many sessions before a database. */
export const startPooler = async (
  url: string,
  size: number,
  mode: "transaction" | "statement" = "transaction"
): Promise<Pooler> => {
  const sessions = await Promise.all(Array.from({ length: size }, () => openSession(new URL(url))))
  const free = [...sessions]
  const waiting: Array<(session: Session) => void> = []
  const clients = new Set<net.Socket>()
  let moved = 0

  const take = (): Promise<Session> => {
    const session = free.shift()
    return session === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(session)
  }
  // to the end of the line: the next transaction of the same client is elsewhere
  const give = (session: Session) => {
    const next = waiting.shift()
    if (next === undefined) free.push(session)
    else next(session)
  }

  const connect = (client: net.Socket) => {
    clients.add(client)
    client.setNoDelay(true)
    client.on("error", () => client.destroy())
    client.on("close", () => clients.delete(client))
    let greeted = false
    let pending: Array<Buffer> = []
    let held: Session | undefined
    let last: Session | undefined
    let turn = Promise.resolve()
    const read = messages()

    const statement = (bytes: Buffer) =>
      new Promise<void>((answered) => {
        const send = (session: Session) => {
          if (last !== undefined && last !== session) moved++
          held = last = session
          session.heard = (message) => {
            const status = message.type === "Z" ? message.body.toString() : undefined
            if (mode === "statement" && (status === "T" || status === "E")) {
              client.end(refusal)
              session.socket.write(rollback)
              return
            }
            client.write(message.whole)
            if (status === undefined) return
            // idle: the transaction, if there was one, is over
            if (status === "I") {
              held = undefined
              // what a server says to nobody in particular, as NOTIFY, nobody is told
              session.heard = () => undefined
              give(session)
            }
            answered()
          }
          session.socket.write(bytes)
        }
        if (held === undefined) void take().then(send)
        else send(held)
      })

    client.on("data", (chunk) => {
      if (!greeted) {
        greeted = true
        client.write(sessions[0]?.greeting ?? "")
        return
      }
      for (const message of read(chunk)) {
        if (message.type === "X") return client.end()
        pending.push(message.whole)
        if (message.type !== "Q" && message.type !== "S") continue
        const bytes = Buffer.concat(pending)
        pending = []
        turn = turn.then(() => statement(bytes))
      }
    })
  }

  const server = net.createServer(connect)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the pooler has no port")
  return {
    port: address.port,
    moved: () => moved,
    close: () =>
      new Promise((resolve) => {
        for (const socket of [...clients, ...sessions.map((session) => session.socket)]) socket.destroy()
        server.close(() => resolve())
      })
  }
}
