/**
 * The little of HDF5 that MINC needs: groups, contiguous datasets of numbers, attributes of numbers and text. Written
 * as superblock version 0 with object headers of version 1 and links in the headers, which needs neither trees nor
 * checksums (HDF5 File Format Specification, version 3.0, sections II.A and IV.A).
 */

export type Attribute = string | number | readonly number[] | { readonly unsigned: number };

export interface Hdf5Group {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly members: Readonly<Record<string, Hdf5Group | Hdf5Dataset>>;
}

export interface Hdf5Dataset {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Empty: a scalar. */
  readonly shape: readonly number[];
  readonly type: "int16" | "int32" | "float64";
  /** Little-endian. */
  readonly data: Uint8Array;
}

const UNDEFINED = 0xffffffffffffffffn;
const SUPERBLOCK_BYTES = 96;
const MESSAGE = {
  dataspace: 1,
  linkInfo: 2,
  datatype: 3,
  fillValue: 5,
  link: 6,
  layout: 8,
  groupInfo: 10,
  attribute: 12,
} as const;

/** The whole file. Same tree, same bytes. */
export function buildHdf5(root: Hdf5Group): Uint8Array {
  const parts: Buffer[] = [];
  let end = SUPERBLOCK_BYTES;
  const append = (bytes: Buffer): bigint => {
    const address = BigInt(end);
    const padded = pad8(bytes);
    parts.push(padded);
    end += padded.length;
    return address;
  };
  const write = (object: Hdf5Group | Hdf5Dataset): bigint => {
    const attributes = Object.entries(object.attributes ?? {}).map(
      ([name, value]) => [MESSAGE.attribute, attributeMessage(name, value)] as const,
    );
    if ("members" in object) {
      const links = Object.entries(object.members).map(([name, member]) => {
        const text = Buffer.from(name, "ascii");
        return [
          MESSAGE.link,
          Buffer.concat([Buffer.from([1, 0, text.length]), text, long(write(member))]),
        ] as const;
      });
      const info = Buffer.concat([Buffer.from([0, 0]), long(UNDEFINED), long(UNDEFINED)]);
      return append(
        objectHeader([
          [MESSAGE.linkInfo, info],
          [MESSAGE.groupInfo, Buffer.alloc(2)],
          ...links,
          ...attributes,
        ]),
      );
    }
    const address = append(Buffer.from(object.data));
    const layout = Buffer.concat([Buffer.from([3, 1]), long(address), long(BigInt(object.data.byteLength))]);
    return append(
      objectHeader([
        [MESSAGE.dataspace, dataspace(object.shape)],
        [MESSAGE.datatype, datatype(object.type)],
        [MESSAGE.fillValue, Buffer.from([2, 2, 0, 0])],
        [MESSAGE.layout, layout],
        ...attributes,
      ]),
    );
  };
  const rootAddress = write(root);
  const superblock = Buffer.alloc(SUPERBLOCK_BYTES);
  superblock.write("\x89HDF\r\n\x1a\n", 0, "latin1");
  superblock.writeUInt8(8, 13);
  superblock.writeUInt8(8, 14);
  superblock.writeUInt16LE(4, 16);
  superblock.writeUInt16LE(16, 18);
  superblock.writeBigUInt64LE(UNDEFINED, 32);
  superblock.writeBigUInt64LE(BigInt(end), 40);
  superblock.writeBigUInt64LE(UNDEFINED, 48);
  superblock.writeBigUInt64LE(rootAddress, 64);
  return Buffer.concat([superblock, ...parts]);
}

function objectHeader(messages: readonly (readonly [type: number, body: Buffer])[]): Buffer {
  const bodies = messages.map(([type, body]) => {
    const padded = pad8(body);
    const head = Buffer.alloc(8);
    head.writeUInt16LE(type, 0);
    head.writeUInt16LE(padded.length, 2);
    return Buffer.concat([head, padded]);
  });
  const all = Buffer.concat(bodies);
  const prefix = Buffer.alloc(16);
  prefix.writeUInt8(1, 0);
  prefix.writeUInt16LE(messages.length, 2);
  prefix.writeUInt32LE(1, 4);
  prefix.writeUInt32LE(all.length, 8);
  return Buffer.concat([prefix, all]);
}

function attributeMessage(name: string, value: Attribute): Buffer {
  const [type, shape, data] = encoded(value);
  const label = Buffer.from(`${name}\0`, "ascii");
  const space = dataspace(shape);
  const head = Buffer.alloc(8);
  head.writeUInt8(1, 0);
  head.writeUInt16LE(label.length, 2);
  head.writeUInt16LE(type.length, 4);
  head.writeUInt16LE(space.length, 6);
  return Buffer.concat([head, pad8(label), pad8(type), pad8(space), data]);
}

function encoded(value: Attribute): [type: Buffer, shape: readonly number[], data: Buffer] {
  if (typeof value === "string") {
    const data = Buffer.from(`${value}\0`, "latin1");
    return [datatype("text", data.length), [], data];
  }
  if (typeof value === "object" && "unsigned" in value) {
    const data = Buffer.alloc(4);
    data.writeUInt32LE(value.unsigned);
    return [datatype("uint32"), [], data];
  }
  const numbers = typeof value === "number" ? [value] : value;
  const data = Buffer.alloc(8 * numbers.length);
  for (const [i, number] of numbers.entries()) data.writeDoubleLE(number, 8 * i);
  return [datatype("float64"), typeof value === "number" ? [] : [numbers.length], data];
}

function dataspace(shape: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 + 8 * shape.length);
  bytes.writeUInt8(1, 0);
  bytes.writeUInt8(shape.length, 1);
  for (const [i, size] of shape.entries()) bytes.writeBigUInt64LE(BigInt(size), 8 + 8 * i);
  return bytes;
}

function datatype(type: Hdf5Dataset["type"] | "uint32" | "text", length = 0): Buffer {
  if (type === "text") return Buffer.from([0x13, 0, 0, 0, ...intBytes(length)]);
  if (type === "float64") {
    // Sign at bit 63, implied leading bit; exponent of 11 bits at 52, biased by 1023.
    return Buffer.from([0x11, 0x20, 0x3f, 0, ...intBytes(8), 0, 0, 64, 0, 52, 11, 0, 52, ...intBytes(1023)]);
  }
  const size = type === "int16" ? 2 : 4;
  const signed = type === "uint32" ? 0 : 0x08;
  return Buffer.from([0x10, signed, 0, 0, ...intBytes(size), 0, 0, size * 8, 0]);
}

function intBytes(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

function long(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function pad8(bytes: Buffer): Buffer {
  const rest = bytes.length % 8;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(8 - rest)]);
}
