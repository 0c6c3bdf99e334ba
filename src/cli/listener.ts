/**
 * The HTTP server on the metrics port. Whoever reaches the port may open connections and say little; a probe is answered
 * all the same, with few files left to the process, and the end of the process does not wait for anybody.
 */
import { createServer, type Server } from "node:http"
import type { Socket } from "node:net"

/** Connections at once. A probe and a scrape need two; the process has files to open besides. */
const mostConnections = 32

const seconds = 1000
/** A request's head is there at once, or not meant. */
const headTimeout = 5 * seconds
const requestTimeout = 10 * seconds
/** Of a connection on which nothing is read or written, as by somebody who does not read the answer. */
const idleTimeout = 10 * seconds
/** What is answered while the server closes has this long. */
const closing = 0.5 * seconds

/** Of more connections than there may be, ends the oldest on which no request is under way, else the oldest. */
const limitConnections = (server: Server): void => {
  const connections = new Set<Socket>()
  const busy = new Set<Socket>()
  server.on("connection", (socket) => {
    connections.add(socket)
    socket.on("close", () => connections.delete(socket))
    if (connections.size <= mostConnections) return
    const all = [...connections].filter((one) => one !== socket)
    const oldest = all.find((one) => !busy.has(one)) ?? all[0]
    oldest?.destroy()
    if (oldest !== undefined) connections.delete(oldest)
  })
  server.on("request", ({ socket }, response) => {
    busy.add(socket)
    response.on("close", () => busy.delete(socket))
  })
}

/** The server, not yet listening. */
export const make = (): Server => {
  const server = createServer({
    headersTimeout: headTimeout,
    requestTimeout,
    connectionsCheckingInterval: 1 * seconds
  })
  server.setTimeout(idleTimeout)
  limitConnections(server)
  const close = server.close.bind(server)
  server.close = (ended) => {
    setTimeout(() => server.closeAllConnections(), closing).unref()
    return close(ended)
  }
  return server
}
