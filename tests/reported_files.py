"""What a row notes of each of the reported DICOM files that is read (fixtures/dicom_reports); of others nothing."""

from embeddings_store.schema import Note

NOTED = {
    "c01b_nul_delimiter": Note.NOT_CLOSED,
    "c01c_no_delimiter_jll": Note.NOT_CLOSED,
    "c16c_overlay_j2k": Note.SAMPLES_DISAGREE,
    "c16d_overlay_jls": Note.SAMPLES_DISAGREE,
    "c17_highbit15": Note.HIGH_BIT,
    "c18_no_meta_group_length": Note.META_LENGTH_WRONG,
    "c19d_meta_length_zero": Note.META_LENGTH_WRONG,
    "c22a_says_implicit_is_explicit": Note.SYNTAX_DISAGREES,
    "c22c_says_implicit_is_explicit_OW": Note.SYNTAX_DISAGREES,
    "c22d_small": Note.SYNTAX_DISAGREES,
    "c26a_no_number_of_frames": Note.FRAMES_COUNTED,
    "c27b_excess_padding_frame": Note.PADDED,
    "c27c_excess_padding_half": Note.PADDED,
    "c28_odd_frame_padding": Note.FRAMES_PADDED,
    "c29a_rescale_per_frame": Note.RESCALED_BY_FRAME,
    "c30_slope_zero": Note.CONSTANT,
    "c35_concatenation_1of2": Note.JOINED,
}
