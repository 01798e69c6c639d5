//! Parquet files of all kinds: runs, recordings, datasets. They are written so that every reader takes them, and read only
//! after what they would take in memory is known: a small file can say that it has a billion rows.

mod read;
mod write;

pub use read::{TableError, TableFile};
pub use write::TableWriter;

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Seek as _};

    use polars_core::prelude::*;

    use super::*;

    fn written(frame: &mut DataFrame) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = TableWriter::begin(&mut bytes, frame.schema()).unwrap();
        writer.add(frame).unwrap();
        writer.finish(&[("gpuos-trace", "{}".to_owned())]).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let names = Column::new("name".into(), ["a", "b", "a"]);
        let numbers = Column::new("number".into(), [1_u64, u64::MAX, 3]);
        let mut frame = DataFrame::new(3, vec![names, numbers]).unwrap();
        let table = TableFile::open(Cursor::new(written(&mut frame))).unwrap();
        assert_eq!((table.metadata("gpuos-trace"), table.metadata("other"), table.rows()), (Some("{}"), None, 3));
        assert!(table.read(&["name", "number"]).unwrap().equals(&frame));
    }

    #[test]
    fn no_reader_is_told_of_types_that_few_have() {
        let mut frame = DataFrame::new(1, vec![Column::new("name".into(), ["a"])]).unwrap();
        let bytes = written(&mut frame);
        assert!(!bytes.windows(12).any(|part| part == b"ARROW:schema"));
    }

    #[test]
    fn a_small_file_with_too_many_rows_is_refused_before_it_is_decoded() {
        const ROWS: usize = 1 << 20;
        let columns = (0..100).map(|at| Column::new(format!("{at}").into(), vec![true; ROWS]));
        let mut frame = DataFrame::new(ROWS, columns.collect()).unwrap();
        let bytes = written(&mut frame);
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let names: Vec<String> = (0..100).map(|at| format!("{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let refused = TableFile::open(Cursor::new(bytes)).unwrap().read(&names);
        assert!(matches!(refused, Err(TableError::TooLarge)), "{refused:?}");
    }

    #[test]
    fn a_file_is_read_in_parts() {
        let mut frame = DataFrame::new(5, vec![Column::new("number".into(), [1_u64, 2, 3, 4, 5])]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &written(&mut frame)).unwrap();
        file.rewind().unwrap();
        let mut table = TableFile::open(file).unwrap();
        assert_eq!(table.read_part(3, 10, &["number"]).unwrap().height(), 2);
        assert_eq!(table.read_part(0, 2, &["number"]).unwrap().height(), 2);
    }

    #[test]
    fn what_a_file_says_of_its_parts_is_not_believed() {
        let mut frame = DataFrame::new(2, vec![Column::new("number".into(), [1_u64, 2])]).unwrap();
        let good = written(&mut frame);
        // A description of nearly four gigabytes, in a sparse file that has them.
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(9 << 30).unwrap();
        file.seek(std::io::SeekFrom::End(-8)).unwrap();
        std::io::Write::write_all(&mut file, &[0xf0, 0xff, 0xff, 0xff, b'P', b'A', b'R', b'1']).unwrap();
        assert!(matches!(TableFile::open(file), Err(TableError::TooLarge)));
        for length in 0..good.len() {
            assert!(TableFile::open(Cursor::new(good[..length].to_vec())).is_err());
        }
        // Columns that nobody asks for are not read.
        let other = Column::new("other".into(), ["x".repeat(1000), "y".to_owned()]);
        let mut wide = DataFrame::new(2, vec![frame.column("number").unwrap().clone(), other]).unwrap();
        let table = TableFile::open(Cursor::new(written(&mut wide))).unwrap();
        assert!(table.read(&["number", "absent"]).unwrap().equals(&frame));
    }
}
