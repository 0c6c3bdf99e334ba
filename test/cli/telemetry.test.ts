/**
 * Where traces, metrics and the log are sent: an address that is none stops the start, and a collector that takes nothing is
 * told of once, and once when it does again.
 */
import { createServer } from "node:http"
import { createServer as createSilent, type Server } from "node:net"
import { afterEach, describe, expect, it, vi } from "vitest"
import { run } from "./inProcess.ts"
import { freePort, newDatabase, noteHandler, until, workplace } from "./workplace.ts"

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve(address !== null && typeof address === "object" ? address.port : 0)
    })
  )

describe("a variable of the exporter", () => {
  afterEach(() => vi.unstubAllEnvs())

  const wrong: ReadonlyArray<readonly [name: string, value: string, says: string]> = [
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "not a sEcret", "is not the address of a collector: write http://host:4318"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "htp:/sEcret", "is not the address of a collector"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "sEcret:4318", "is not the address of a collector"],
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "sEcret", "is not the address of a collector"],
    ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://", "is not the address of a collector"],
    ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://sEcret", "is not the address of a collector"],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:sEcret@127.0.0.1:1", "holds a user's name or a password"],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "is neither http/json nor http/protobuf"],
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "sEcret", "is wrong: Expected a string representing a finite number"],
    ["OTEL_EXPORTER_OTLP_HEADERS", "authorization=sEcret%zz", "is wrong: Expected"],
    ["OTEL_EXPORTER_OTLP_COMPRESSION", "sEcret", "is wrong: Expected \"gzip\" | \"none\""]
  ]
  it.each(wrong)("%s that cannot be is named, and nothing is begun: %s", async (name, value, says) => {
    if (!name.endsWith("ENDPOINT")) vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    vi.stubEnv(name, value)
    const { failed, stderr, stdout } = await run("status", "--json", "--url", "postgres://nobody@127.0.0.1:1/none")
    expect({ failed, error: JSON.parse(stdout) }).toEqual({
      failed: true,
      error: { error: expect.stringContaining(`${name} ${says}`) }
    })
    expect(stderr + stdout).not.toContain("sEcret")
    expect(stderr).not.toContain("database:")
  })
})

describe("a collector", { timeout: 240_000 }, () => {
  const told = (stderr: string) =>
    stderr.split("\n").flatMap((line) => /message="(telemetry is .*?)"/.exec(line)?.[1] ?? [])

  it("that refuses is logged once for each signal, and once when it accepts them again", async () => {
    let isAway = true
    let requests = 0
    const collector = createServer((request, response) => {
      request.resume().on("end", () => {
        if (request.url?.startsWith("/v1/metrics")) requests++
        response.writeHead(isAway ? 503 : 200, { "content-type": "application/json" }).end("{}")
      })
    })
    const port = await listen(collector)
    const place = await workplace(await newDatabase(), {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_TRACES_EXPORTER: "none",
      OTEL_LOGS_EXPORTER: "none",
      OTEL_METRIC_EXPORT_INTERVAL: "100"
    })
    place.file("persist/notes.ts", noteHandler("good"))
    const running = place.start("drain", "--every", "1s")
    // it is tried again, and told of no more
    await until(() => requests, (count) => count > 2)
    isAway = false
    await until(() => told(running.output.stderr), ({ length }) => length > 1)
    running.child.kill("SIGTERM")
    const { status, stderr } = await running.ended
    const address = `http://127.0.0.1:${port}/v1/metrics`
    expect({ status, told: told(stderr) }).toEqual({
      status: 0,
      told: [`telemetry is not delivered to ${address}: it answers 503`, `telemetry is delivered again to ${address}`]
    })
    collector.close()
  })

  it("that is absent, or does not answer, is logged by a short command and does not delay its end", async () => {
    const silent = createSilent(() => {})
    for (
      const [port, says] of [[await freePort(), "ECONNREFUSED"], [await listen(silent), "it does not answer in time"]]
    ) {
      const place = await workplace(undefined, {
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `http://127.0.0.1:${port}/metrics?token=sEcret`,
        OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "500",
        OTEL_METRIC_EXPORT_TIMEOUT: "500"
      })
      const { status, stderr } = await place.sluice("record", "--embedded", place.file("calls.jsonl", ""))
      expect({ status, told: told(stderr) }).toEqual({
        status: 0,
        told: [
          expect.stringMatching(
            new RegExp(`^telemetry is not delivered to http://127.0.0.1:${port}/metrics: .*${says}`)
          )
        ]
      })
      expect(stderr).not.toContain("sEcret")
    }
    silent.close()
  })
})
