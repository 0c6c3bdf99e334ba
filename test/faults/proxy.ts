/**
 * A proxy before Postgres that knows where one statement ends and the next begins, so that a connection can be cut
 * exactly there.
 */
import * as net from "node:net"
import { messages } from "../support/messages.ts"

/** Where in a conversation a cut can be made: before a statement reaches the server, or before its answer comes back. */
export type Side = "before" | "after"

/** A statement on its way. */
export interface Passing {
  /** From 1, over all connections, since the proxy was last told to count. */
  readonly number: number
  readonly side: Side
  readonly text: string
  /** The server process of its connection. */
  readonly backend: number
  /** Whether a transaction was open at the session's latest answer, which on side `"after"` is that to this statement. */
  readonly open: boolean
}

/** What to do with it. `"cut"` closes the connection both ways. */
export type Verdict = "pass" | "cut"

/** A running proxy. */
export interface Proxy {
  readonly port: number
  /** Starts to count anew, and asks about every statement. */
  readonly watch: (ask: (passing: Passing) => Verdict | Promise<Verdict>) => void
  /** From now on nothing passes through the connections that there are, and they stay open. New ones work. */
  readonly silence: () => void
  /** The server hears that the silent ones are over, as by keepalive. */
  readonly forget: () => void
  /** From now on new connections lead to another server, as an address does after a failover. Those there are stay. */
  readonly lead: (upstream: number) => void
  /** How many connections there are, of those that are not silent. */
  readonly connections: () => number
  /** How many have been made. */
  readonly made: () => number
  readonly close: () => Promise<void>
}

/** Starts a proxy before a server on this machine. */
export const startProxy = async (first: number): Promise<Proxy> => {
  let ask: (passing: Passing) => Verdict | Promise<Verdict> = () => "pass"
  let upstream = first
  let count = 0
  const sockets = new Set<net.Socket>()
  let generation = 0

  const servers = new Map<net.Socket, number>()
  let made = 0

  const connect = (client: net.Socket) => {
    const mine = generation
    made++
    const isSilent = () => mine < generation
    const server = net.connect(upstream, "127.0.0.1")
    servers.set(server, mine)
    server.on("close", () => servers.delete(server))
    const cut = () => {
      // what one end does, the other does not hear of
      if (isSilent()) return
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", cut)
      socket.on("close", () => {
        sockets.delete(socket)
        cut()
      })
    }

    let backend = 0
    let open = false
    let started = false
    // of the statement that is under way
    let number = 0
    let text = ""
    const prepared = new Map<string, string>()
    let toServer: Array<Buffer> = []
    let toClient: Array<Buffer> = []
    // one after the other, though the questions take time
    let turn = Promise.resolve()
    const inTurn = (step: () => Promise<void> | void) => {
      turn = turn.then(step, cut)
    }
    const decide = async (side: Side, pass: () => void) => {
      const verdict = await ask({ number, side, text, backend, open })
      if (verdict === "cut") cut()
      else pass()
    }

    const fromClient = messages()
    client.on("data", (chunk) => {
      if (isSilent()) return
      // the greeting has no letter
      if (!started) {
        server.write(chunk)
        return
      }
      for (const message of fromClient(chunk)) {
        inTurn(async () => {
          toServer.push(message.whole)
          const [first = "", second = ""] = message.body.toString("utf8").split("\0", 2)
          if (message.type === "P") prepared.set(first, text = second)
          // what was prepared before comes by its name alone
          if (message.type === "B") text = prepared.get(second) ?? ""
          if (message.type === "Q") text = message.body.toString("utf8").replace("\0", "")
          // a statement is complete when the server is asked to answer
          if (message.type !== "Q" && message.type !== "S") return
          const bytes = Buffer.concat(toServer)
          toServer = []
          number = ++count
          await decide("before", () => server.write(bytes))
        })
      }
    })

    const fromServer = messages()
    server.on("data", (chunk) => {
      if (isSilent()) return
      for (const message of fromServer(chunk)) {
        if (message.type === "K") backend = message.body.readInt32BE(0)
        if (!started) {
          client.write(message.whole)
          if (message.type === "Z") started = true
          continue
        }
        // what comes unasked goes through at once
        if (message.type === "A" || message.type === "N" || message.type === "S") {
          client.write(message.whole)
          continue
        }
        inTurn(async () => {
          toClient.push(message.whole)
          if (message.type !== "Z") return
          open = message.body.toString("latin1") !== "I"
          const bytes = Buffer.concat(toClient)
          toClient = []
          await decide("after", () => client.write(bytes))
        })
      }
    })
  }

  const server = net.createServer(connect)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the proxy has no port")
  return {
    port: address.port,
    watch: (next) => {
      ask = next
      count = 0
    },
    silence: () => {
      generation++
    },
    forget: () => {
      for (const [server, of] of servers) if (of < generation) server.destroy()
    },
    lead: (port) => {
      upstream = port
    },
    connections: () => [...servers.values()].filter((of) => of === generation).length,
    made: () => made,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      })
  }
}
