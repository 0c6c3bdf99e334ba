/**
 * The HTTP server on the metrics port, protected against clients that open many connections or send slowly: it still answers
 * probes, uses few file descriptors, and does not delay the end of the process.
 */
import { createServer, type Server } from "node:http"
import type { Socket } from "node:net"

/** The most open connections. A probe and a scrape need two; the process needs file descriptors for other things. */
const mostConnections = 32

const seconds = 1000
/** How long a client may take to send the head of a request: a real one sends it immediately. */
const headTimeout = 5 * seconds
const requestTimeout = 10 * seconds
/** For a connection without traffic, for example of a client that does not read the answer. */
const idleTimeout = 10 * seconds
/** How long requests under way may take once the server closes. */
const closing = 0.5 * seconds

/** Above the limit, ends the oldest connection without a request under way, or else the oldest of all. */
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

/** Makes the server. It does not listen yet. */
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
