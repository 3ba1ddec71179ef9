// Bytes in typed pages: what is appended is addressed by its offset for ever, and the oldest pages can be let go.

/** Size of a page, in bytes. */
export const pageSize = 1 << 20;
const firstSize = 4096;

export class Pages {
  private pages: (Uint8Array | undefined)[] = [];
  /** Offset behind the last byte. */
  end = 0;
  /** Offset of the first byte that is still here. */
  start = 0;
  /** Bytes of memory taken. */
  held = 0;

  append(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; ) {
      const at = this.end % pageSize;
      const page = this.room(Math.floor(this.end / pageSize), Math.min(pageSize, at + bytes.length - i));
      const n = Math.min(bytes.length - i, page.length - at);
      page.set(n === bytes.length ? bytes : bytes.subarray(i, i + n), at);
      i += n;
      this.end += n;
    }
  }

  /** The page with this number, with room for `need` bytes; a page grows to its full size, so that a short log stays small. */
  private room(n: number, need: number): Uint8Array {
    const page = this.pages[n];
    if (page && page.length >= need) return page;
    let size = n > 0 ? pageSize : Math.max(firstSize, page?.length ?? 0);
    while (size < need) size *= 2;
    const grown = new Uint8Array(size);
    if (page) grown.set(page);
    this.held += size - (page?.length ?? 0);
    this.pages[n] = grown;
    return grown;
  }

  /** The bytes from `from` up to `to`: shared where they lie in one page, so they are good until the next append. */
  read(from: number, to: number): Uint8Array {
    const first = Math.floor(from / pageSize);
    const at = from % pageSize;
    const page = this.pages[first];
    if (!page) return new Uint8Array(0);
    if (at + to - from <= page.length) return page.subarray(at, at + to - from);
    const out = new Uint8Array(to - from);
    for (let p = from; p < to; ) {
      const k = Math.floor(p / pageSize);
      const n = Math.min(to - p, (k + 1) * pageSize - p);
      const page = this.pages[k];
      if (page) out.set(page.subarray(p % pageSize, (p % pageSize) + n), p - from);
      p += n;
    }
    return out;
  }

  /** Forgets everything from `to` on. */
  truncate(to: number): void {
    this.end = to;
  }

  /** Lets go of the pages that lie wholly before `to`. */
  drop(to: number): void {
    const upto = Math.floor(Math.min(to, this.end) / pageSize);
    for (let k = Math.floor(this.start / pageSize); k < upto; k++) {
      this.held -= this.pages[k]?.length ?? 0;
      this.pages[k] = undefined;
    }
    this.start = Math.max(this.start, upto * pageSize);
  }
}
