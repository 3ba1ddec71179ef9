// What the keys do.

import { useEffect, useRef } from "preact/hooks";

const keys: [string, string][] = [
  ["/  or  Ctrl+F", "search the whole log"],
  ["Enter, n  /  Shift+Enter, N", "next, previous hit"],
  ["g", "go to a line or a time"],
  ["Home  /  End", "first line; the end, and follow"],
  ["f", "follow on and off"],
  ["e", "next line of stderr"],
  ["s", "only stderr, on and off"],
  ["w", "wrap long lines, on and off"],
  ["t", "times: off, local, UTC, since start"],
  ["c", "copy the chosen lines"],
  ["1  2  3", "one client, grid, merged"],
  ["!", "the first client that failed"],
  ["[  ]", "previous, next client"],
  ["Esc", "close, clear the search"],
  ["?", "this list"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={onClose} onClick={(e) => e.target === dialog.current && onClose()}>
      <h2 id="help-title">Keyboard</h2>
      <table>
        <tbody>
          {keys.map(([k, what]) => (
            <tr key={k}>
              <th scope="row">
                <kbd>{k}</kbd>
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="muted">A click on a line number makes a link to the line; with Shift, to a range.</p>
      <button type="button" onClick={onClose}>
        Close
      </button>
    </dialog>
  );
}
