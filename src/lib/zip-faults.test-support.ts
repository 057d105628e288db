import { crc32, deflateRawSync } from "node:zlib";

/** One entry of a hand-made zip. Every field that is given is written as it is, true or not. */
export interface FaultEntry {
  readonly name: string | Uint8Array;
  readonly data?: Uint8Array;
  readonly method?: number;
  readonly level?: number;
  /** Where size and CRC stand: in the local header (`none`) or behind the data. Default `signed`. */
  readonly descriptor?: "signed" | "unsigned" | "none";
  /** 64-bit sizes in the descriptor. */
  readonly wide?: boolean;
  /** Zip64 field in the local header. */
  readonly localZip64?: boolean;
  /** Sizes in the local header although a descriptor follows. */
  readonly sizesInFront?: boolean;
  readonly flags?: number;
  readonly centralFlags?: number;
  readonly centralMethod?: number;
  readonly localExtra?: Uint8Array;
  readonly centralName?: string;
  /** CRC behind the data, or in the local header without a descriptor. */
  readonly crc?: number;
  readonly centralCrc?: number;
  readonly localSize?: number;
  readonly centralSize?: number;
  readonly centralCompressed?: number;
  readonly centralOffset?: number;
  readonly centralDisk?: number;
  readonly compressed?: Uint8Array;
}

export interface FaultZip {
  readonly entries: readonly FaultEntry[];
  /** Indexes of the entries that the directory lists, in its order. Default: all. */
  readonly directory?: readonly number[];
  readonly zip64?: boolean;
  readonly comment?: Uint8Array;
  readonly trailing?: Uint8Array;
  readonly endCount?: number;
  readonly endDisk?: number;
  readonly endStart?: number;
  readonly locatorShift?: number;
  readonly prefix?: Uint8Array;
}

const u16 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 2);
  for (const [index, value] of values.entries()) bytes.writeUInt16LE(value, index * 2);
  return bytes;
};
const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
};
const u64 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), index * 8);
  return bytes;
};

/** An extra field as it stands in a header. */
export function extraField(id: number, body: Uint8Array): Buffer {
  return Buffer.concat([u16(id, body.length), body]);
}

/** A zip with the faults asked for; without any it is correct. Written apart from the real writer on purpose. */
export function buildZip(zip: FaultZip): Buffer {
  const parts: Uint8Array[] = [zip.prefix ?? Buffer.alloc(0)];
  let at = zip.prefix?.length ?? 0;
  const push = (bytes: Uint8Array): void => {
    parts.push(bytes);
    at += bytes.length;
  };
  const central = zip.entries.map((entry) => {
    const data = entry.data ?? Buffer.alloc(0);
    const method = entry.method ?? 8;
    const compressed =
      entry.compressed ?? (method === 8 ? deflateRawSync(data, { level: entry.level ?? 6 }) : data);
    const name = Buffer.from(entry.name);
    const late = (entry.descriptor ?? "signed") !== "none";
    const flags = entry.flags ?? (late ? 0x0808 : 0x0800);
    const crc = entry.crc ?? crc32(data);
    const inFront = !late || entry.sizesInFront === true;
    const local64 = entry.localZip64
      ? extraField(1, inFront ? u64(entry.localSize ?? data.length, compressed.length) : u64(0, 0))
      : Buffer.alloc(0);
    const extra = Buffer.concat([local64, entry.localExtra ?? Buffer.alloc(0)]);
    const offset = at;
    push(
      Buffer.concat([
        u32(0x04034b50),
        u16(20, flags, method, 0, 33),
        u32(
          late ? 0 : crc,
          entry.localZip64 ? 0xffffffff : inFront ? compressed.length : 0,
          entry.localZip64 ? 0xffffffff : inFront ? (entry.localSize ?? data.length) : 0,
        ),
        u16(name.length, extra.length),
        name,
        extra,
      ]),
    );
    push(compressed);
    if (late) {
      if (entry.descriptor !== "unsigned") push(u32(0x08074b50));
      push(u32(crc));
      push(entry.wide ? u64(compressed.length, data.length) : u32(compressed.length, data.length));
    }
    const centralName = entry.centralName === undefined ? name : Buffer.from(entry.centralName);
    const centralCrc = entry.centralCrc ?? crc32(data);
    const sizes = [entry.centralCompressed ?? compressed.length, entry.centralSize ?? data.length] as const;
    const shownOffset = entry.centralOffset ?? offset;
    const wideExtra = zip.zip64 ? extraField(1, u64(sizes[1], sizes[0], shownOffset)) : Buffer.alloc(0);
    return Buffer.concat([
      u32(0x02014b50),
      u16(20, 20, entry.centralFlags ?? flags, entry.centralMethod ?? method, 0, 33),
      u32(centralCrc, zip.zip64 ? 0xffffffff : sizes[0], zip.zip64 ? 0xffffffff : sizes[1]),
      u16(centralName.length, wideExtra.length, 0, entry.centralDisk ?? 0, 0),
      u32(0, zip.zip64 ? 0xffffffff : shownOffset),
      centralName,
      wideExtra,
    ]);
  });
  const start = at;
  for (const index of zip.directory ?? central.keys()) push(central[index]!);
  const bytes = at - start;
  const count = zip.endCount ?? zip.directory?.length ?? central.length;
  const shownStart = zip.endStart ?? start;
  const disk = zip.endDisk ?? 0;
  const comment = zip.comment ?? Buffer.alloc(0);
  if (zip.zip64) {
    const end64 = at;
    push(u32(0x06064b50));
    push(u64(44));
    push(u16(45, 45));
    push(u32(disk, 0));
    push(u64(count, count, bytes, shownStart));
    push(u32(0x07064b50, 0));
    push(u64(end64 + (zip.locatorShift ?? 0)));
    push(u32(1));
  }
  push(u32(0x06054b50));
  push(
    zip.zip64
      ? Buffer.concat([u16(0, 0, 0xffff, 0xffff), u32(0xffffffff, 0xffffffff)])
      : Buffer.concat([u16(disk, 0, count, count), u32(bytes, shownStart)]),
  );
  push(u16(comment.length));
  push(comment);
  push(zip.trailing ?? Buffer.alloc(0));
  return Buffer.concat(parts);
}
