declare module "parse-prometheus-text-format" {
  export default function parse(text: string): ReadonlyArray<{
    readonly name: string
    readonly help: string
    readonly type: string
    readonly metrics: ReadonlyArray<{
      readonly labels?: Readonly<Record<string, string>>
      readonly value?: string
      /** Of a histogram; its labels are not told. */
      readonly buckets?: Readonly<Record<string, string>>
    }>
  }>
}
