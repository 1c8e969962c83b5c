//! Runs of bytes that are zero or may hold data.

use crate::chunk::Geometry;

/// A run of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Bytes.
    pub length: u64,
    /// Known to read as zeros.
    pub zero: bool,
}

/// Appends a span, joining it to the last one if they are alike.
pub(super) fn push(spans: &mut Vec<Span>, length: u64, zero: bool) {
    match spans.last_mut() {
        _ if length == 0 => {}
        Some(last) if last.zero == zero => last.length += length,
        _ => spans.push(Span { length, zero }),
    }
}

/// The chunks of `first..first + count` that lie wholly in zero spans, as runs (first, count).
/// `spans` begin at the first chunk.
pub fn zero_chunks(geometry: Geometry, first: u32, count: u32, spans: &[Span]) -> Vec<(u32, u32)> {
    let mut runs = Vec::new();
    let mut position = geometry.offset(first);
    let window_end = first + count;
    for span in spans {
        let end = (position + span.length).min(geometry.size());
        if span.zero {
            let begin_chunk = geometry.chunk_at(position + u64::from(crate::chunk::CHUNK_SIZE) - 1);
            // The last chunk is whole even if it is short.
            let end_chunk = if end == geometry.size() {
                geometry.chunks()
            } else {
                geometry.chunk_at(end)
            };
            let end_chunk = end_chunk.min(window_end);
            if begin_chunk < end_chunk {
                runs.push((begin_chunk, end_chunk - begin_chunk));
            }
        }
        position = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::CHUNK_SIZE;

    #[test]
    fn only_whole_chunks_count_as_zero() {
        let chunk = u64::from(CHUNK_SIZE);
        let geometry = Geometry::new(10 * chunk + 5);
        let spans = [
            Span {
                length: chunk + 1,
                zero: true,
            },
            Span {
                length: chunk,
                zero: false,
            },
            Span {
                length: 100 * chunk,
                zero: true,
            },
        ];
        assert_eq!(zero_chunks(geometry, 0, 11, &spans), [(0, 1), (3, 8)]);
        assert_eq!(
            zero_chunks(
                geometry,
                4,
                3,
                &[Span {
                    length: 3 * chunk,
                    zero: true
                }]
            ),
            [(4, 3)]
        );
    }
}
